//! The state of the made-up cluster, and which part each event goes to.

use std::collections::VecDeque;
use std::time::Duration;

use super::event::{Event, Queue};
use super::latency::{CONTROLLER_REQUESTS, SCHEDULER_REQUESTS};
use super::pod::{Pod, Starts};
use super::record::{Outcome, Record};
use super::set::Worker;
use super::{Scenario, Start, deployment};
use crate::rollout::limit::Limiter;
use crate::rollout::node::{NoRoom, Nodes};
use crate::rollout::probe::Kubelet;

/// Where the scenario's time 0 is: late enough that pods can be old.
pub(super) const BEGIN: Duration = Duration::from_secs(100_000);

pub(super) struct World<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) now: Duration,
    pub(super) queue: Queue,
    pub(super) deployments: Vec<deployment::Worker>,
    pub(super) sets: Vec<Worker>,
    pub(super) pods: Vec<Pod>,
    pub(super) nodes: Nodes,
    pub(super) kubelets: Vec<Host>,
    /// Pods without a node, by Deployment, and why.
    pub(super) waiting: Vec<(VecDeque<usize>, Option<NoRoom>)>,
    /// What is in use of each quota.
    pub(super) used: Vec<i128>,
    pub(super) requests: Requests,
    pub(super) record: Record,
}

/// What each controller may still ask of the API server.
pub(super) struct Requests {
    pub(super) deployment: Limiter,
    pub(super) set: Limiter,
    pub(super) scheduler: Limiter,
}

pub(super) struct Host {
    pub(super) kubelet: Kubelet,
    pub(super) starts: Starts,
    /// When its last status will have been written.
    pub(super) writes: Duration,
}

impl<'a> World<'a> {
    pub(super) fn new(scenario: &'a Scenario) -> World<'a> {
        let count = scenario.workloads.len();
        let limiter = |(rate, burst)| Limiter::new(rate, burst);
        let requests = Requests {
            deployment: limiter(CONTROLLER_REQUESTS),
            set: limiter(CONTROLLER_REQUESTS),
            scheduler: limiter(SCHEDULER_REQUESTS),
        };
        let mut world = World {
            scenario,
            now: BEGIN + scenario.phase.second,
            queue: Queue::default(),
            deployments: Vec::new(),
            sets: Vec::new(),
            pods: Vec::new(),
            nodes: Nodes::new(scenario.nodes, scenario.gpus),
            kubelets: (0..scenario.nodes).map(|node| host(scenario, node)).collect(),
            waiting: vec![(VecDeque::new(), None); count],
            used: vec![0; scenario.quota.len()],
            requests,
            record: Record::new(BEGIN + scenario.phase.second),
        };
        for (index, workload) in scenario.workloads.iter().enumerate() {
            world.deployments.push(deployment::Worker::new(&workload.spec));
            if workload.start == Start::Running {
                world.add_running(index);
            }
        }
        world.record.begin(&world.sets, &world.deployments);
        for (index, workload) in scenario.workloads.iter().enumerate() {
            if workload.start == Start::Absent {
                world.wake_deployment(index);
            }
        }
        for (index, planned) in scenario.actions.iter().enumerate() {
            let at = world.now + planned.at;
            world.queue.push(at, Event::User(index));
        }
        world
    }

    pub(super) fn run(mut self) -> Outcome {
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            self.record.at(at);
            self.happen(event);
        }
        self.outcome()
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::User(index) => self.user(index),
            Event::SyncDeployment(index) => self.sync_deployment(index),
            Event::Resize { deployment, template, size } => self.resize(deployment, template, size),
            Event::DeploymentDone(index) => self.deployment_done(index),
            Event::DeadlineCheck(index) => self.wake_deployment(index),
            Event::SyncSet(index) => self.sync_set(index),
            Event::SetDone(index) => self.set_done(index),
            Event::Create(set) => self.create(set),
            Event::Delete(pod) => self.delete(pod),
            Event::Schedule(pod) => self.schedule(pod),
            Event::Start { node, plan } => self.start(node, plan),
            Event::Probed(pod) => self.probed(pod),
            Event::Ready(pod) => self.ready(pod),
            Event::Available(pod) => self.available(pod),
            Event::Killed(pod) => self.killed(pod),
            Event::Exit(pod) => self.exit(pod),
            Event::Finished(pod) => self.finished(pod),
            Event::Gone(pod) => self.gone(pod),
            Event::Evict(node) => self.evict(node),
        }
    }

    pub(super) fn plan(&mut self, after: Duration, event: Event) {
        self.queue.push(self.now + after, event);
    }
}

/// Kubelets list their containers at different times; these are spread evenly, whatever their number.
fn host(scenario: &Scenario, node: usize) -> Host {
    let golden = u64::try_from(node).unwrap_or(0).wrapping_mul(618_033) % 1_000_000;
    let listing = BEGIN + scenario.phase.second + scenario.phase.listing + Duration::from_micros(golden);
    Host { kubelet: Kubelet { listing }, starts: Starts::default(), writes: Duration::ZERO }
}
