//! The Deployment's condition Progressing: whether a rollout moves, is done, or has not moved for too long.

use std::time::Duration;

use super::set::{Set, Status};
use super::spec::Spec;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The last progress, in whole seconds as an API server keeps it.
    Moving { since: Duration },
    Complete,
    DeadlineExceeded,
    Paused,
}

/// What a Deployment reports of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub condition: Condition,
    pub all: Status,
    pub updated: i32,
}

impl Progress {
    /// Of a Deployment whose rollouts are over.
    pub fn complete(spec: &Spec, sets: &[Set]) -> Progress {
        let (all, updated) = sum(spec, sets);
        Progress { condition: Condition::Complete, all, updated }
    }

    /// A template was changed, or a pause ended: the clock starts anew.
    pub fn restart(&mut self, now: Duration) {
        self.condition = Condition::Moving { since: whole(now) };
    }

    /// The next report, after the sets have changed.
    #[must_use]
    pub fn next(&self, spec: &Spec, sets: &[Set], now: Duration) -> Progress {
        let (all, updated) = sum(spec, sets);
        let wanted = spec.replicas;
        let complete = updated == wanted && all.replicas == wanted && all.available == wanted;
        let moved = updated > self.updated
            || all.replicas - updated < self.all.replicas - self.updated
            || all.ready > self.all.ready
            || all.available > self.all.available;
        let condition = match self.condition {
            _ if spec.paused => Condition::Paused,
            // Done is done: a pod that is lost later starts no clock.
            Condition::Complete if all.replicas == updated => Condition::Complete,
            _ if complete => Condition::Complete,
            _ if moved => Condition::Moving { since: whole(now) },
            Condition::Moving { since } if spec.deadline.is_some_and(|deadline| since + deadline < now) => {
                Condition::DeadlineExceeded
            }
            condition => condition,
        };
        Progress { condition, all, updated }
    }

    /// When somebody has to look again whether the deadline has passed: a second after it, as the controller does.
    pub fn check_at(&self, spec: &Spec) -> Option<Duration> {
        let Condition::Moving { since } = self.condition else { return None };
        Some(since + spec.deadline? + Duration::from_secs(1))
    }

    /// Whether all pods are of the wanted template, and available.
    pub fn is_done(&self, spec: &Spec) -> bool {
        let wanted = spec.replicas;
        self.updated == wanted && self.all.replicas == wanted && self.all.available == wanted
    }
}

fn whole(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs())
}

fn sum(spec: &Spec, sets: &[Set]) -> (Status, i32) {
    let updated = sets.iter().filter(|set| set.template == spec.template).map(|set| set.status.replicas).sum();
    (sets.iter().map(|set| set.status).sum(), updated)
}
