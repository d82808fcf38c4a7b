//! What the cluster's API server knows: everything that everybody acts upon. There is one of each thing: what clients read
//! is made of it (`object`), and what they write goes into it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kubectl_torchpod::cluster::matches;
use kubectl_torchpod::rollout::{Action, Budget, End, Needs, Nodes, Observed, Owner, Template};
use serde_json::Value;

use crate::blueprint::spelt;
use crate::deployment::{Deployment, index};
use crate::history::{History, Key};
use crate::kubelet::rules;
use crate::network::Network;
use crate::object;
use crate::pod::Pod;
use crate::process::Version;
use crate::route::Route;
use crate::service::{self, Service};

pub(crate) const NODES: usize = 2;

pub struct State {
    pub deployments: Vec<Deployment>,
    /// All that ever were, by their number.
    pub pods: Vec<Pod>,
    pub(crate) services: Vec<Service>,
    pub(crate) budgets: Vec<PodDisruptionBudget>,
    pub(crate) nodes: Nodes,
    /// By node: its name, labels and annotations.
    pub(crate) node_metadata: Vec<ObjectMeta>,
    /// Objects on which nobody here acts, as they were written.
    pub(crate) records: BTreeMap<Key, Value>,
    pub(crate) images: BTreeMap<String, Version>,
    pub(crate) history: History,
    /// Whether all of it may have changed since `history` was told.
    pub(crate) changed: bool,
    pub(crate) network: Network,
    pub(crate) closing: bool,
    /// When the cluster's clock began.
    epoch: Timestamp,
    uids: u64,
    /// What happened, to be read where a test fails.
    journal: Vec<(Duration, String)>,
}

/// What the calendar says.
pub(crate) fn today() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    Timestamp::UNIX_EPOCH + since
}

/// Why an eviction is refused: the budget's name, how many it needs, and how many there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evicted {
    pub budget: String,
    pub least: i32,
    pub healthy: i32,
}

impl State {
    pub(crate) fn new(network: Network) -> State {
        let mut state = State {
            deployments: Vec::new(),
            pods: Vec::new(),
            services: Vec::new(),
            budgets: Vec::new(),
            nodes: Nodes::new(NODES, 0),
            node_metadata: Vec::new(),
            records: BTreeMap::new(),
            images: BTreeMap::new(),
            history: History::default(),
            changed: true,
            network,
            closing: false,
            epoch: today(),
            uids: 0,
            journal: Vec::new(),
        };
        for node in 0..NODES {
            let name = format!("node-{node}");
            let labels = BTreeMap::from([("kubernetes.io/hostname".to_owned(), name.clone())]);
            let mut metadata = ObjectMeta { name: Some(name), labels: Some(labels), ..ObjectMeta::default() };
            state.make(&mut metadata, Duration::ZERO);
            state.node_metadata.push(metadata);
        }
        state
    }

    /// What an API server gives to an object that is new.
    pub(crate) fn make(&mut self, metadata: &mut ObjectMeta, now: Duration) {
        self.uids += 1;
        metadata.uid = Some(format!("10000000-0000-4000-8000-{:012x}", self.uids));
        metadata.creation_timestamp = Some(Time(self.timestamp(now)));
    }

    /// The end of a name that nobody has.
    pub(crate) fn suffix(&mut self) -> String {
        self.uids += 1;
        spelt(self.uids.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32, 5)
    }

    /// Whole seconds, as an API server keeps them.
    fn timestamp(&self, at: Duration) -> Timestamp {
        let time = self.epoch + at;
        Timestamp::from_second(time.as_second()).expect("a time of today")
    }

    /// A time, as JSON has it.
    pub(crate) fn time(&self, at: Duration) -> String {
        self.timestamp(at).to_string()
    }

    pub(crate) fn note(&mut self, now: Duration, what: String) {
        self.journal.push((now, what));
    }

    pub fn journal(&self) -> String {
        let lines = self.journal.iter().map(|(at, what)| format!("{:>8.3} s  {what}", at.as_secs_f64()));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The route of the first Service.
    pub fn route(&self) -> &Route {
        &self.services.first().expect("there is a Service").route
    }

    pub(crate) fn deployment(&self, name: &str) -> Option<usize> {
        self.deployments.iter().position(|one| one.name() == name && !one.deleted)
    }

    pub(crate) fn observed(&self, deployment: usize) -> Vec<Observed<usize>> {
        self.pods.iter().filter(|pod| pod.deployment == deployment).map(Pod::observed).collect()
    }

    /// Every controller's turn, until none has anything to do. Returns the pods that have found a node.
    pub(crate) fn reconcile(&mut self, now: Duration) -> Vec<usize> {
        for index in 0..self.deployments.len() {
            loop {
                let observed = self.observed(index);
                let actions = self.deployments[index].next(&observed, now);
                if actions.is_empty() {
                    break;
                }
                for action in actions {
                    match action {
                        Action::Create(template) => self.create(index, template, now),
                        Action::Delete(id) => self.delete(id, None, now),
                    }
                }
                self.watch(now);
            }
        }
        let waiting = self.pods.iter().filter(|pod| pod.stays() && pod.node.is_none());
        let waiting: Vec<_> = waiting.map(|pod| pod.id).collect();
        waiting.into_iter().filter(|id| self.schedule(*id, now)).collect()
    }

    fn create(&mut self, deployment: usize, template: Template, now: Duration) {
        let id = self.pods.len();
        let owner = &self.deployments[deployment];
        let revision = index(template);
        let blueprint = Arc::clone(&owner.blueprints[revision]);
        // Numbers that are next to each other are to look different, as in a real cluster.
        let suffix = spelt(u64::try_from(id + 1).expect("a few pods").wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32, 5);
        let mut metadata = blueprint.template.metadata.clone().unwrap_or_default();
        metadata.name = Some(format!("{}-{suffix}", owner.set_name(revision)));
        metadata.namespace = Some(owner.namespace().to_owned());
        metadata.labels = Some(blueprint.labels());
        self.make(&mut metadata, now);
        self.note(now, format!("pod {id} is made: {}", blueprint.image()));
        self.pods.push(Pod {
            id,
            deployment,
            template,
            blueprint,
            metadata,
            address: self.address(),
            node: None,
            created: now,
            bound: None,
            container: None,
            waiting: None,
            ready_since: None,
            turned: now,
            started: false,
            restarts: 0,
            condemned: false,
            end: End::Stays,
            deleted: None,
            exits: Vec::new(),
        });
    }

    /// One that no pod has, and that nobody had for as long as possible.
    fn address(&self) -> std::net::Ipv4Addr {
        let used = |address| self.pods.iter().any(|pod| pod.end != End::Finished && pod.address == address);
        let next = (self.pods.len()..).map(|number| self.network.pod(number));
        next.take(usize::from(Network::PODS)).find(|address| !used(*address)).expect("no test has so many pods at once")
    }

    /// Finds a node for a pod. Returns whether there was one.
    fn schedule(&mut self, id: usize, now: Duration) -> bool {
        let Ok(node) = self.nodes.place(self.owner(id), Needs::default()) else { return false };
        let pod = &mut self.pods[id];
        (pod.node, pod.bound) = (Some(node), Some(now));
        self.note(now, format!("pod {id} goes to node {node}"));
        true
    }

    fn owner(&self, id: usize) -> Owner {
        let pod = &self.pods[id];
        Owner { deployment: pod.deployment, revision: index(pod.template) }
    }

    /// Both at once, as in a cluster: its end begins, and the rules are to be written anew. `grace` is what somebody
    /// asked for in place of the pod's own.
    pub(crate) fn delete(&mut self, id: usize, grace: Option<Duration>, now: Duration) {
        let pod = &mut self.pods[id];
        if !pod.stays() {
            return;
        }
        pod.end = End::Terminating;
        pod.deleted = Some((now, grace.unwrap_or_else(|| pod.blueprint.grace())));
        pod.container.as_mut().map(|running| &mut running.rules).into_iter().for_each(rules::Container::delete);
        let has_kubelet = pod.node.is_some();
        self.note(now, format!("pod {id} is deleted"));
        if !has_kubelet {
            self.finish(id, now);
        }
    }

    pub(crate) fn finish(&mut self, id: usize, now: Duration) {
        self.pods[id].end = End::Finished;
        if let Some(node) = self.pods[id].node {
            self.nodes.release(node, self.owner(id), Needs::default());
        }
        self.note(now, format!("pod {id} is gone"));
    }

    /// The budgets that a pod falls under.
    fn budgets_of(&self, pod: &Pod) -> impl Iterator<Item = &PodDisruptionBudget> {
        self.budgets.iter().filter(|budget| {
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            budget.metadata.namespace.as_deref() == Some(pod.namespace())
                && selector.is_some_and(|selector| matches(selector, pod.labels()))
        })
    }

    /// Of a budget's pods: how many their controllers want, and how many are ready and stay.
    pub(crate) fn guarded(&self, budget: &PodDisruptionBudget) -> (i32, i32) {
        let covers = |pod: &&Pod| {
            pod.end != End::Finished && self.budgets_of(pod).any(|one| one.metadata.uid == budget.metadata.uid)
        };
        let own: Vec<&Pod> = self.pods.iter().filter(covers).collect();
        let mut owners: Vec<usize> = own.iter().map(|pod| pod.deployment).collect();
        owners.sort_unstable();
        owners.dedup();
        let expected = owners.iter().filter(|owner| !self.deployments[**owner].deleted);
        let expected = expected.map(|owner| self.deployments[*owner].spec().replicas).sum();
        let healthy = own.iter().filter(|pod| pod.stays() && pod.is_ready()).count();
        (expected, i32::try_from(healthy).expect("a few pods"))
    }

    /// Asks for a pod to be evicted, as `kubectl drain` does.
    pub(crate) fn evict(&mut self, id: usize, now: Duration) -> Result<(), Evicted> {
        let pod = &self.pods[id];
        let refused = self.budgets_of(pod).find_map(|budget| {
            let (expected, healthy) = self.guarded(budget);
            let rule = Budget::of(budget.spec.as_ref()?)?;
            let refused = rule.evict(pod.is_ready(), healthy, expected).err()?;
            let budget = budget.metadata.name.clone().unwrap_or_default();
            Some(Evicted { budget, least: refused.least, healthy: refused.healthy })
        });
        if let Some(refused) = refused {
            self.note(now, format!("pod {id} is not evicted: {refused:?}"));
            return Err(refused);
        }
        self.delete(id, None, now);
        Ok(())
    }

    /// Writes the Services' rules anew where it is time. Returns whether any changed.
    pub(crate) fn sync_routes(&mut self, now: Duration) -> bool {
        let mut changed = Vec::new();
        for service in &mut self.services {
            if service.sync(&self.pods, now) {
                changed.push(format!("the rules of {} are {:?}", service.name(), service.route.rules));
            }
        }
        let any = !changed.is_empty();
        for what in changed {
            self.note(now, what);
        }
        any
    }

    /// Keeps the least and the most of what is to be promised.
    pub(crate) fn watch(&mut self, now: Duration) {
        for index in 0..self.deployments.len() {
            let observed = self.observed(index);
            self.deployments[index].watch(&observed, now);
        }
    }

    pub(crate) fn is_done(&self, deployment: usize, now: Duration) -> bool {
        self.deployments[deployment].is_done(&self.observed(deployment), now)
    }

    /// All are as wanted, and the rules say so.
    pub(crate) fn is_serving(&self, now: Duration) -> bool {
        let current = self.services.iter().all(|service| service.is_current(&self.pods));
        current && (0..self.deployments.len()).all(|index| self.is_done(index, now))
    }

    /// And what was to end has ended.
    pub(crate) fn is_settled(&self, now: Duration) -> bool {
        self.is_serving(now) && self.pods.iter().all(|pod| pod.end != End::Terminating)
    }

    /// When to look again, though nothing has changed.
    pub(crate) fn look_at(&self, now: Duration) -> Option<Duration> {
        let deployments = self.deployments.iter().enumerate();
        let deployments = deployments.filter_map(|(index, one)| one.look_at(&self.observed(index), now));
        deployments.chain(self.services.iter().filter_map(|service| service.route.look_at())).min()
    }

    /// Has the history show what there is now.
    pub(crate) fn show(&mut self) {
        if std::mem::take(&mut self.changed) {
            let all = object::all(self);
            self.history.take(all);
        }
    }

    pub(crate) fn service_named(&self, namespace: &str, name: &str) -> Option<&Service> {
        self.services.iter().find(|one| one.namespace() == namespace && one.name() == name)
    }

    /// A pod to which a Service's rules send the next connection, and where; none, where they refuse it.
    pub(crate) fn pick(
        &self,
        service: &Service,
        port: &ServicePort,
        chance: &mut fastrand::Rng,
    ) -> Option<(usize, SocketAddr)> {
        let pod = &self.pods[*chance.choice(&service.route.rules)?];
        let port = pod.blueprint.port(&service::target(port))?;
        Some((pod.id, SocketAddr::from((pod.address, self.network.port(port)))))
    }

    /// A pod that is still there.
    pub(crate) fn pod_named(&self, namespace: &str, name: &str) -> Option<&Pod> {
        let found = self.pods.iter().find(|pod| pod.namespace() == namespace && pod.name() == name);
        found.filter(|pod| pod.end != End::Finished)
    }
}
