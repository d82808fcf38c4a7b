//! The Deployment controller at work: it reads, writes sizes, reports, and is back when something changes.

use std::time::Duration;

use super::event::{Event, Work};
use super::latency::{
    DEPLOYMENT_CONFLICTS, DEPLOYMENT_CONFLICTS_MOST, DEPLOYMENT_CONFLICTS_POD, DEPLOYMENT_SETTLES, DEPLOYMENT_WRITE,
    EVENTS, NEXT_SIZE, WAKE,
};
use super::record::What;
use super::set;
use super::world::World;
use crate::rollout::deployment::{Change, reconcile};
use crate::rollout::progress::{Condition, Progress};
use crate::rollout::set::Set;
use crate::rollout::spec::Spec;

pub(super) struct Worker {
    pub(super) spec: Spec,
    /// What it read when its present work began. It writes by this, whatever somebody has changed meanwhile.
    read: Spec,
    /// Indices of its sets, in the order in which they were made.
    pub(super) sets: Vec<usize>,
    pub(super) work: Work,
    pub(super) progress: Progress,
    /// What it reports when the present work is done.
    report: Option<Progress>,
    /// What its templates were before the present one, for `undo`.
    pub(super) history: Vec<u32>,
    events: u32,
    check: Option<Duration>,
}

impl Worker {
    pub(super) fn new(spec: &Spec) -> Worker {
        let progress = Progress::complete(spec, &[]);
        let (work, sets, history) = (Work::Idle, Vec::new(), Vec::new());
        let (spec, read) = (spec.clone(), spec.clone());
        Worker { spec, read, sets, work, progress, report: None, history, events: 0, check: None }
    }
}

impl Worker {
    /// Somebody changed what is wanted: a report that is on its way is out of date.
    pub(super) fn restart(&mut self, now: Duration) {
        self.report = None;
        self.progress.restart(now);
    }
}

impl World<'_> {
    pub(super) fn wake_deployment(&mut self, index: usize) {
        if self.deployments[index].work.wake() {
            self.plan(WAKE, Event::SyncDeployment(index));
        }
    }

    pub(super) fn views(&self, index: usize) -> Vec<Set> {
        self.deployments[index].sets.iter().map(|set| self.sets[*set].set.clone()).collect()
    }

    // ## Due => Busy: sizes are decided now and written one after the other, the report comes last
    pub(super) fn sync_deployment(&mut self, index: usize) {
        let sets = self.views(index);
        let worker = &mut self.deployments[index];
        worker.work = Work::Busy;
        worker.read = worker.spec.clone();
        let changes = reconcile(&worker.spec, &sets);
        let made = changes.iter().find(|change| sets.iter().all(|set| set.template != change.template));
        let conflict = made.map(|made| {
            let pods = DEPLOYMENT_CONFLICTS_POD * u32::try_from(made.size).unwrap_or(0);
            DEPLOYMENT_CONFLICTS + pods.min(DEPLOYMENT_CONFLICTS_MOST)
        });
        let next = worker.progress.next(&worker.spec, &sets, self.now);
        let reports = next != worker.progress;
        worker.report = reports.then_some(next);
        let mut at = self.now;
        let count = changes.len();
        for (place, change) in changes.into_iter().enumerate() {
            at = self.request(index).max(at) + if place == 0 { DEPLOYMENT_WRITE } else { NEXT_SIZE };
            let Change { template, size } = change;
            self.queue.push(at, Event::Resize { deployment: index, template: template.0, size });
        }
        let after = match (count, reports) {
            (0, false) => return self.deployment_done(index),
            (0, true) => self.request(index).saturating_sub(self.now) + DEPLOYMENT_WRITE,
            _ => at.saturating_sub(self.now) + conflict.unwrap_or(DEPLOYMENT_SETTLES),
        };
        self.plan(after, Event::DeploymentDone(index));
    }

    /// When the next write may go out; it is told of in an event, as long as those are not too many.
    fn request(&mut self, index: usize) -> Duration {
        let worker = &mut self.deployments[index];
        if worker.events < EVENTS {
            worker.events += 1;
            self.requests.deployment.take(self.now);
        }
        self.requests.deployment.take(self.now)
    }

    pub(super) fn resize(&mut self, index: usize, template: u32, size: i32) {
        let worker = &self.deployments[index];
        let known = worker.sets.iter().copied().find(|set| self.sets[*set].set.template.0 == template);
        let set = known.unwrap_or_else(|| {
            self.sets.push(set::Worker::new(index, &self.deployments[index].read, 0));
            self.deployments[index].sets.push(self.sets.len() - 1);
            self.sets.len() - 1
        });
        let before = self.sets[set].set.size;
        self.sets[set].set.resize(&self.deployments[index].read, size);
        if known.is_none() || before != size {
            self.note(What::Sized { set, from: before, to: size });
        }
        self.wake_set(set);
        self.wake_deployment(index);
    }

    // ## Busy => Idle, or at once Due again
    pub(super) fn deployment_done(&mut self, index: usize) {
        if let Some(report) = self.deployments[index].report.take() {
            let worker = &mut self.deployments[index];
            let before = std::mem::replace(&mut worker.progress, report);
            let after = &worker.progress;
            let exceeded = |progress: &Progress| progress.condition == Condition::DeadlineExceeded;
            let late = exceeded(after) && !exceeded(&before);
            let done = after.is_done(&worker.spec) && !before.is_done(&worker.spec);
            if late {
                self.note(What::DeadlineExceeded { deployment: index });
            }
            if done {
                self.note(What::Complete { deployment: index });
            }
        }
        let worker = &mut self.deployments[index];
        let check = worker.progress.check_at(&worker.spec);
        if check != worker.check {
            worker.check = check;
            if let Some(at) = check {
                self.queue.push(at.max(self.now), Event::DeadlineCheck(index));
            }
        }
        if self.deployments[index].work.end() {
            self.plan(WAKE, Event::SyncDeployment(index));
        }
    }
}
