//! A pod's life: scheduler, container, probes, and its end.

use std::collections::VecDeque;
use std::time::Duration;

use super::event::Event;
use super::latency::{AVAILABLE, FINISHED, GONE, KUBELET_WRITE, SIGTERM, START, START_SHARE};
use super::record::What;
use super::world::World;
use crate::rollout::node::Owner;
use crate::rollout::probe::{FIRST_SYNC, Fate, VOLUME};
use crate::rollout::set::available_at;

pub(super) struct Pod {
    pub(super) set: usize,
    pub(super) created: Duration,
    pub(super) node: Option<usize>,
    pub(super) state: State,
    pub(super) available: bool,
}

// ## Pending => Starting => Running => Ready, and from each of them => Ending => Finished => Gone
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Pending,
    Starting,
    Running,
    Ready { since: Duration },
    Ending,
    Finished,
    Gone,
}

impl Pod {
    pub(super) fn new(set: usize, created: Duration) -> Pod {
        Pod { set, created, node: None, state: State::Pending, available: false }
    }

    pub(super) fn ready_since(&self) -> Option<Duration> {
        match self.state {
            State::Ready { since } => Some(since),
            _ => None,
        }
    }

    fn ends(&self) -> bool {
        matches!(self.state, State::Ending | State::Finished | State::Gone)
    }
}

/// Containers that start or end on one node share its processors: each gets its part of the time.
#[derive(Debug, Default)]
pub(super) struct Starts {
    /// The share that every one of them has got so far.
    served: Duration,
    last: Duration,
    /// With the share at which it starts.
    waiting: VecDeque<(Duration, usize)>,
    plan: u32,
}

impl Starts {
    fn advance(&mut self, now: Duration) {
        let count = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        if count > 0 {
            self.served += (now - self.last) / count;
        }
        self.last = now;
    }

    fn add(&mut self, share: Duration, pod: usize) {
        let share = self.served + share;
        let place = self.waiting.partition_point(|(other, _)| *other <= share);
        self.waiting.insert(place, (share, pod));
    }

    /// When the next one starts, and the number of this plan: an older one is void.
    fn next(&mut self) -> Option<(Duration, u32)> {
        let (share, _) = self.waiting.front()?;
        let count = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        self.plan += 1;
        Some((share.saturating_sub(self.served) * count, self.plan))
    }
}

impl World<'_> {
    fn owner(&self, pod: usize) -> Owner {
        let set = self.pods[pod].set;
        Owner { deployment: self.sets[set].deployment, revision: set }
    }

    /// An old pod, which has been ready for long, has its place.
    pub(super) fn run_at_once(&mut self, pod: usize) {
        let owner = self.owner(pod);
        let needs = self.scenario.workloads[owner.deployment].needs;
        let since = self.pods[pod].created;
        if let Ok(node) = self.nodes.place(owner, needs) {
            self.pods[pod].node = Some(node);
            self.record.uses(i64::from(needs.gpus));
        }
        self.pods[pod].state = State::Ready { since };
        self.pods[pod].available = true;
    }

    pub(super) fn schedule(&mut self, pod: usize) {
        if self.pods[pod].state != State::Pending {
            return;
        }
        let owner = self.owner(pod);
        self.waiting[owner.deployment].0.push_back(pod);
        self.place_waiting(owner.deployment);
    }

    /// Pods that wait for a node get one in their order.
    fn place_waiting(&mut self, deployment: usize) {
        while let Some(pod) = self.waiting[deployment].0.front().copied() {
            if self.pods[pod].state == State::Pending {
                let needs = self.scenario.workloads[deployment].needs;
                match self.nodes.place(self.owner(pod), needs) {
                    Err(why) => {
                        self.waiting[deployment].1 = Some(why);
                        self.note(What::Waits { pod, why });
                        return;
                    }
                    Ok(node) => {
                        self.pods[pod].node = Some(node);
                        self.pods[pod].state = State::Starting;
                        self.record.uses(i64::from(needs.gpus));
                        self.bind(pod, node);
                    }
                }
            }
            self.waiting[deployment].0.pop_front();
        }
        self.waiting[deployment].1 = None;
    }

    fn bind(&mut self, pod: usize, node: usize) {
        let bound = self.requests.scheduler.take(self.now);
        // A pod that waited for its turn is bound later; it takes its share of the node from now on all the same.
        let starts = &mut self.kubelets[node].starts;
        starts.advance(self.now);
        starts.add(START_SHARE + (bound - self.now), pod);
        self.plan_start(node);
    }

    fn plan_start(&mut self, node: usize) {
        if let Some((after, plan)) = self.kubelets[node].starts.next() {
            self.plan(after, Event::Start { node, plan });
        }
    }

    pub(super) fn start(&mut self, node: usize, plan: u32) {
        let starts = &mut self.kubelets[node].starts;
        if starts.plan != plan {
            return;
        }
        starts.advance(self.now);
        let Some((_, pod)) = starts.waiting.pop_front() else { return };
        self.plan_start(node);
        // One that ends has nothing more to come here.
        if self.pods[pod].state == State::Starting {
            self.pods[pod].state = State::Running;
            self.probe(pod, node);
        }
    }

    fn probe(&mut self, pod: usize, node: usize) {
        let set = self.pods[pod].set;
        let workload = &self.scenario.workloads[self.sets[set].deployment];
        let template = usize::try_from(self.sets[set].set.template.0).unwrap_or(0);
        let first = self.pods[pod].created + FIRST_SYNC + if workload.volumes { VOLUME } else { Duration::ZERO };
        let kubelet = self.kubelets[node].kubelet;
        match kubelet.fate(&workload.probes, first, self.now + START, workload.versions[template]) {
            Fate::Ready(at) => self.queue.push(at, Event::Probed(pod)),
            Fate::Killed(at) => self.queue.push(at, Event::Killed(pod)),
            Fate::Never => {}
        }
    }

    /// The kubelet writes one status after the other.
    pub(super) fn probed(&mut self, pod: usize) {
        let Some(node) = self.pods[pod].node else { return };
        let writes = &mut self.kubelets[node].writes;
        let at = self.now.max(*writes);
        *writes = at + KUBELET_WRITE;
        self.queue.push(at, Event::Ready(pod));
    }

    pub(super) fn ready(&mut self, pod: usize) {
        if self.pods[pod].ends() {
            return;
        }
        let set = self.pods[pod].set;
        self.pods[pod].state = State::Ready { since: self.now };
        self.sets[set].actual.ready += 1;
        self.note(What::Ready { pod, set });
        let min_ready = self.deployments[self.sets[set].deployment].spec.min_ready;
        if min_ready.is_zero() {
            self.available(pod);
        } else {
            self.queue.push(available_at(self.now, min_ready).max(self.now) + AVAILABLE, Event::Available(pod));
        }
        self.wake_set(set);
    }

    pub(super) fn available(&mut self, pod: usize) {
        let one = &mut self.pods[pod];
        if one.ends() || one.available {
            return;
        }
        one.available = true;
        let set = one.set;
        self.sets[set].actual.available += 1;
        self.wake_set(set);
    }

    pub(super) fn killed(&mut self, pod: usize) {
        if !self.pods[pod].ends() {
            self.note(What::Killed { pod });
        }
    }

    pub(super) fn delete(&mut self, pod: usize) {
        if self.pods[pod].ends() {
            return;
        }
        let (state, set) = (self.pods[pod].state, self.pods[pod].set);
        let available = std::mem::take(&mut self.pods[pod].available);
        self.pods[pod].state = State::Ending;
        let worker = &mut self.sets[set];
        worker.active.retain(|one| *one != pod);
        worker.actual.replicas -= 1;
        worker.actual.ready -= i32::from(matches!(state, State::Ready { .. }));
        worker.actual.available -= i32::from(available);
        worker.actual.terminating += 1;
        self.note(What::Deleted { pod, set });
        match state {
            // No kubelet has heard of it.
            State::Pending => self.plan(Duration::ZERO, Event::Finished(pod)),
            State::Starting => self.plan(SIGTERM, Event::Exit(pod)),
            _ => {
                let stop = self.scenario.workloads[self.sets[set].deployment].stop;
                self.plan(SIGTERM + stop, Event::Exit(pod));
            }
        }
        self.wake_set(set);
    }

    pub(super) fn exit(&mut self, pod: usize) {
        if let Some(node) = self.pods[pod].node {
            let starts = &mut self.kubelets[node].starts;
            starts.advance(self.now);
            starts.add(START_SHARE, pod);
            self.plan_start(node);
        }
        self.plan(FINISHED, Event::Finished(pod));
    }

    pub(super) fn finished(&mut self, pod: usize) {
        let set = self.pods[pod].set;
        let owner = self.owner(pod);
        self.pods[pod].state = State::Finished;
        self.sets[set].actual.terminating -= 1;
        self.use_quota(owner.deployment, -1);
        let mut gone = self.now;
        if let Some(node) = self.pods[pod].node {
            let needs = self.scenario.workloads[owner.deployment].needs;
            self.nodes.release(node, owner, needs);
            self.record.uses(-i64::from(needs.gpus));
            gone = self.kubelets[node].kubelet.listing_after(self.now) + GONE;
        }
        self.queue.push(gone, Event::Gone(pod));
        for deployment in 0..self.deployments.len() {
            self.place_waiting(deployment);
        }
        // A quota may have room again, and Recreate may go on.
        for set in 0..self.sets.len() {
            if self.sets[set].active.len() < usize::try_from(self.sets[set].set.size).unwrap_or(0) {
                self.wake_set(set);
            }
        }
        self.wake_set(set);
    }

    pub(super) fn gone(&mut self, pod: usize) {
        self.pods[pod].state = State::Gone;
        self.note(What::Gone { pod, set: self.pods[pod].set });
    }
}
