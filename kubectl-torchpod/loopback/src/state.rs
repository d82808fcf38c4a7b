//! What the cluster's API server would know: everything that everybody acts upon.

use std::sync::Arc;
use std::time::Duration;

use kubectl_torchpod::rollout::{Action, Budget, End, Needs, Nodes, Observed, Owner, Refused, Template};

use crate::deployment::Deployment;
use crate::kubelet::rules;
use crate::network::Network;
use crate::pod::{Labels, Pod};
use crate::route::Route;

pub struct State {
    pub deployments: Vec<Deployment>,
    /// All that ever were, by their number.
    pub pods: Vec<Pod>,
    pub route: Route,
    pub nodes: Nodes,
    pub budget: Option<(Labels, Budget)>,
    pub closing: bool,
    /// What happened, to be read where a test fails.
    journal: Vec<(Duration, String)>,
}

impl State {
    pub fn new(deployments: Vec<Deployment>, route: Route, budget: Option<(Labels, Budget)>) -> State {
        let nodes = Nodes::new(2, 0);
        State { deployments, pods: Vec::new(), route, nodes, budget, closing: false, journal: Vec::new() }
    }

    pub fn note(&mut self, now: Duration, what: String) {
        self.journal.push((now, what));
    }

    pub fn journal(&self) -> String {
        let lines = self.journal.iter().map(|(at, what)| format!("{:>8.3} s  {what}", at.as_secs_f64()));
        lines.collect::<Vec<_>>().join("\n")
    }

    pub fn observed(&self, deployment: usize) -> Vec<Observed<usize>> {
        self.pods.iter().filter(|pod| pod.deployment == deployment).map(Pod::observed).collect()
    }

    /// Every controller's turn, until none has anything to do. Returns the pods that are new.
    pub fn reconcile(&mut self, network: Network, now: Duration) -> Vec<usize> {
        let before = self.pods.len();
        for index in 0..self.deployments.len() {
            loop {
                let observed = self.observed(index);
                let actions = self.deployments[index].next(&observed, now);
                if actions.is_empty() {
                    break;
                }
                for action in actions {
                    match action {
                        Action::Create(template) => self.create(index, template, network, now),
                        Action::Delete(id) => self.delete(id, now),
                    }
                }
                self.watch(now);
            }
        }
        (before..self.pods.len()).collect()
    }

    fn create(&mut self, deployment: usize, template: Template, network: Network, now: Duration) {
        let id = self.pods.len();
        let owner = Owner { deployment, revision: usize::try_from(template.0).expect("a few templates") };
        let node = self.nodes.place(owner, Needs::default()).expect("a node has room");
        let blueprint = Arc::clone(&self.deployments[deployment].blueprints[owner.revision]);
        self.note(now, format!("pod {id} is made: {}, node {node}", blueprint.version.label));
        self.pods.push(Pod {
            id,
            deployment,
            template,
            blueprint,
            address: network.pod(id),
            node,
            created: now,
            container: None,
            ready_since: None,
            started: false,
            restarts: 0,
            condemned: false,
            end: End::Stays,
            exits: Vec::new(),
        });
    }

    /// Both at once, as in a cluster: its end begins, and the rules are to be written anew.
    pub fn delete(&mut self, id: usize, now: Duration) {
        let pod = &mut self.pods[id];
        if pod.stays() {
            pod.end = End::Terminating;
            pod.container.as_mut().map(|running| &mut running.rules).into_iter().for_each(rules::Container::delete);
            self.note(now, format!("pod {id} is deleted"));
        }
    }

    pub fn finish(&mut self, id: usize, now: Duration) {
        let pod = &mut self.pods[id];
        pod.end = End::Finished;
        let owner =
            Owner { deployment: pod.deployment, revision: usize::try_from(pod.template.0).expect("a few templates") };
        self.nodes.release(pod.node, owner, Needs::default());
        self.note(now, format!("pod {id} is gone"));
    }

    /// Asks for a pod to be evicted, as `kubectl drain` does.
    pub fn evict(&mut self, id: usize, now: Duration) -> Result<(), Refused> {
        if let Some((selector, budget)) = &self.budget {
            let mut own: Vec<usize> =
                self.pods.iter().filter(|pod| pod.has(selector)).map(|pod| pod.deployment).collect();
            own.sort_unstable();
            own.dedup();
            let expected = own.iter().map(|index| self.deployments[*index].spec.replicas).sum();
            let healthy = self.pods.iter().filter(|pod| pod.has(selector) && pod.stays() && pod.is_ready()).count();
            let healthy = i32::try_from(healthy).expect("a few pods");
            if let Err(refused) = budget.evict(self.pods[id].is_ready(), healthy, expected) {
                self.note(now, format!("pod {id} is not evicted: {refused}"));
                return Err(refused);
            }
        }
        self.delete(id, now);
        Ok(())
    }

    /// Writes the Service's rules anew where it is time. Returns whether they changed.
    pub fn sync_route(&mut self, now: Duration) -> bool {
        let changed = self.route.sync(&self.pods, now);
        if changed {
            self.note(now, format!("the rules are {:?}", self.route.rules));
        }
        changed
    }

    /// Keeps the least and the most of what is to be promised.
    pub fn watch(&mut self, now: Duration) {
        for index in 0..self.deployments.len() {
            let observed = self.observed(index);
            self.deployments[index].watch(&observed, now);
        }
    }

    pub fn is_done(&self, deployment: usize, now: Duration) -> bool {
        self.deployments[deployment].is_done(&self.observed(deployment), now)
    }

    /// All are as wanted, and the rules say so.
    pub fn is_serving(&self, now: Duration) -> bool {
        (0..self.deployments.len()).all(|index| self.is_done(index, now)) && self.route.is_current(&self.pods)
    }

    /// And what was to end has ended.
    pub fn is_settled(&self, now: Duration) -> bool {
        self.is_serving(now) && self.pods.iter().all(|pod| pod.end != End::Terminating)
    }

    /// When to look again, though nothing has changed.
    pub fn look_at(&self, now: Duration) -> Option<Duration> {
        let deployments = self.deployments.iter().enumerate();
        let deployments = deployments.filter_map(|(index, one)| one.look_at(&self.observed(index), now));
        deployments.chain(self.route.look_at()).min()
    }
}
