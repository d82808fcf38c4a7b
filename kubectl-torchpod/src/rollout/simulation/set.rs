//! The ReplicaSet controller at work: it makes and deletes pods, and reports what it saw when it began.

use std::time::Duration;

use super::event::{Event, Work};
use super::latency::{
    BURST, CREATE, DELETE, EVENTS, NEXT_BATCH, NEXT_POD, SET_SETTLES, SET_WRITE, WAKE,
};
use super::pod::{Pod, State};
use super::record::What;
use super::world::World;
use crate::rollout::replica::{Candidate, victims};
use crate::rollout::set::{Set, Status};
use crate::rollout::spec::Spec;

pub(super) struct Worker {
    pub(super) deployment: usize,
    pub(super) set: Set,
    /// Pods that are not ending.
    pub(super) active: Vec<usize>,
    /// What there is, before it is reported.
    pub(super) actual: Status,
    work: Work,
    report: Status,
    /// Creations that are on their way.
    coming: usize,
    events: u32,
}

impl Worker {
    pub(super) fn new(deployment: usize, spec: &Spec, size: i32) -> Worker {
        let none = Status::default();
        let set = Set::new(spec, size);
        Worker { deployment, set, active: Vec::new(), actual: none, work: Work::Idle, report: none, coming: 0, events: 0 }
    }
}

impl World<'_> {
    /// A Deployment's first version, which has been available for long.
    pub(super) fn add_running(&mut self, deployment: usize) {
        let spec = &self.deployments[deployment].spec;
        let mut worker = Worker::new(deployment, spec, spec.replicas);
        let set = self.sets.len();
        let count = spec.replicas;
        let status = Status { replicas: count, ready: count, available: count, terminating: 0 };
        (worker.set.status, worker.actual, worker.report) = (status, status, status);
        self.sets.push(worker);
        self.deployments[deployment].sets.push(set);
        for _ in 0..count {
            let pod = self.pods.len();
            self.use_quota(deployment, 1);
            self.pods.push(Pod::new(set, Duration::from_secs(u64::try_from(pod).unwrap_or(0))));
            self.sets[set].active.push(pod);
            self.run_at_once(pod);
        }
        let worker = &mut self.deployments[deployment];
        let spec = worker.spec.clone();
        self.deployments[deployment].progress = crate::rollout::progress::Progress::complete(&spec, &self.views(deployment));
    }

    pub(super) fn wake_set(&mut self, set: usize) {
        if self.sets[set].work.wake() {
            self.plan(WAKE, Event::SyncSet(set));
        }
    }

    // ## Due => Busy: pods are made or deleted one after the other, the report comes last
    pub(super) fn sync_set(&mut self, index: usize) {
        let worker = &mut self.sets[index];
        worker.work = Work::Busy;
        worker.report = worker.actual;
        let size = usize::try_from(worker.set.size).unwrap_or(0);
        let there = worker.active.len() + worker.coming;
        let last = if there < size {
            self.make((size - there).min(BURST), index)
        } else if there > size {
            self.unmake((there - size).min(BURST), index)
        } else {
            None
        };
        match last {
            Some(last) => self.queue.push(last + SET_SETTLES, Event::SetDone(index)),
            None if self.sets[index].report == self.sets[index].set.status => self.set_done(index),
            None => {
                let at = self.requests.set.take(self.now) + SET_WRITE;
                self.queue.push(at, Event::SetDone(index));
            }
        }
    }

    /// One pod, then two, then four and so on: a mistake shall not cost hundreds of requests. When the last one is made.
    fn make(&mut self, count: usize, set: usize) -> Option<Duration> {
        let (mut batch, mut rest, mut at, mut last) = (1, count, CREATE, None);
        let room = self.room(self.sets[set].deployment, count);
        if room < count {
            self.note(What::OverQuota { set, pods: count - room });
            rest = room;
        }
        while rest > 0 {
            for place in 0..batch.min(rest) {
                let allowed = self.ask(set) - self.now;
                let after = (at + NEXT_POD * u32::try_from(place).unwrap_or(0)).max(allowed + CREATE);
                self.plan(after, Event::Create(set));
                self.sets[set].coming += 1;
                last = last.max(Some(self.now + after));
            }
            rest -= batch.min(rest);
            (batch, at) = (batch * 2, at + NEXT_BATCH);
        }
        last
    }

    fn unmake(&mut self, count: usize, set: usize) -> Option<Duration> {
        let deployment = self.sets[set].deployment;
        let candidates = self.sets[set].active.iter().map(|id| {
            let pod = &self.pods[*id];
            Candidate {
                id: *id,
                scheduled: pod.node.is_some(),
                running: !matches!(pod.state, State::Pending | State::Starting),
                ready_since: pod.ready_since(),
                neighbours: pod.node.map_or(0, |node| self.nodes.of(node, deployment)),
                restarts: 0,
                created: pod.created,
            }
        });
        let mut last = None;
        for (place, pod) in victims(candidates.collect(), count).into_iter().enumerate() {
            let allowed = self.ask(set) - self.now;
            let after = DELETE + (NEXT_POD * u32::try_from(place).unwrap_or(0)).max(allowed);
            self.plan(after, Event::Delete(pod));
            last = last.max(Some(self.now + after));
        }
        last
    }

    /// When the next request may go out; it is told of in an event, as long as those are not too many.
    fn ask(&mut self, set: usize) -> Duration {
        let worker = &mut self.sets[set];
        if worker.events < EVENTS {
            worker.events += 1;
            self.requests.set.take(self.now);
        }
        self.requests.set.take(self.now)
    }

    // ## Busy => Idle, or at once Due again
    pub(super) fn set_done(&mut self, index: usize) {
        let worker = &mut self.sets[index];
        if worker.set.status != worker.report {
            worker.set.status = worker.report;
            let deployment = worker.deployment;
            self.note(What::Reported { set: index });
            self.wake_deployment(deployment);
        }
        if self.sets[index].work.end() {
            self.plan(WAKE, Event::SyncSet(index));
        }
    }

    pub(super) fn create(&mut self, set: usize) {
        let pod = self.pods.len();
        self.use_quota(self.sets[set].deployment, 1);
        self.pods.push(Pod::new(set, self.now));
        let worker = &mut self.sets[set];
        worker.coming -= 1;
        worker.active.push(pod);
        worker.actual.replicas += 1;
        self.note(What::Created { pod, set });
        self.plan(super::latency::SCHEDULE, Event::Schedule(pod));
        self.wake_set(set);
    }

    /// How many of so many pods the quota has room for.
    fn room(&self, deployment: usize, count: usize) -> usize {
        let asks = &self.scenario.workloads[deployment].asks;
        let coming: usize = self.sets.iter().filter(|set| set.deployment == deployment).map(|set| set.coming).sum();
        let rooms = self.scenario.quota.iter().zip(asks).zip(&self.used).filter(|((_, ask), _)| **ask > 0);
        let rooms = rooms.map(|((hard, ask), used)| usize::try_from((hard - used) / ask).unwrap_or(0).saturating_sub(coming));
        rooms.min().unwrap_or(count).min(count)
    }

    pub(super) fn use_quota(&mut self, deployment: usize, sign: i128) {
        let asks = &self.scenario.workloads[deployment].asks;
        for (used, ask) in self.used.iter_mut().zip(asks) {
            *used += ask * sign;
        }
    }
}
