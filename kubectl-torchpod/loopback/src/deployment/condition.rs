//! A Deployment's conditions, with the words and the times that the real controller gives them: kubectl reads the reasons.

use std::time::Duration;

use kubectl_torchpod::rollout::{Condition, Progress, Spec, Strategy};

/// A condition, and when it was last written and last turned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamped {
    pub(crate) status: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) updated: Duration,
    pub(crate) turned: Duration,
}

#[derive(Debug)]
pub(super) struct Conditions {
    available: Stamped,
    progressing: Stamped,
    start: Option<Start>,
}

/// How a rollout began, until it has moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    Created,
    Found,
    Resumed,
}

impl Conditions {
    pub(super) fn new(now: Duration) -> Conditions {
        let unknown = Stamped { status: "Unknown", reason: "", message: String::new(), updated: now, turned: now };
        Conditions { available: unknown.clone(), progressing: unknown, start: Some(Start::Created) }
    }

    /// A rollout begins.
    pub(super) fn restart(&mut self, resumed: bool, has_set: bool) {
        self.start = Some(match (resumed, has_set) {
            (true, _) => Start::Resumed,
            (false, true) => Start::Found,
            (false, false) => Start::Created,
        });
    }

    pub(super) fn update(&mut self, spec: &Spec, before: &Progress, after: &Progress, set: &str, now: Duration) {
        let moved = (after.updated, after.all) != (before.updated, before.all);
        if moved {
            self.start = None;
        }
        let least = if spec.strategy == Strategy::Recreate { spec.replicas } else { spec.least() };
        let (status, reason, has) = if after.all.available >= least {
            ("True", "MinimumReplicasAvailable", "has")
        } else {
            ("False", "MinimumReplicasUnavailable", "does not have")
        };
        self.available.take(status, reason, format!("Deployment {has} minimum availability."), now);
        let set = format!("ReplicaSet \"{set}\"");
        let (status, reason, message) = match (after.condition, self.start) {
            (Condition::Paused, _) => ("Unknown", "DeploymentPaused", "Deployment is paused".to_owned()),
            (Condition::Complete, _) => {
                ("True", "NewReplicaSetAvailable", format!("{set} has successfully progressed."))
            }
            (Condition::DeadlineExceeded, _) => {
                ("False", "ProgressDeadlineExceeded", format!("{set} has timed out progressing."))
            }
            (Condition::Moving { .. }, Some(Start::Resumed)) => {
                ("Unknown", "DeploymentResumed", "Deployment is resumed".to_owned())
            }
            (Condition::Moving { .. }, Some(Start::Created)) => {
                ("True", "NewReplicaSetCreated", format!("Created new {}", lower(&set)))
            }
            (Condition::Moving { .. }, Some(Start::Found)) => {
                ("True", "FoundNewReplicaSet", format!("Found new {}", lower(&set)))
            }
            (Condition::Moving { .. }, None) => ("True", "ReplicaSetUpdated", format!("{set} is progressing.")),
        };
        self.progressing.take(status, reason, message, now);
        if moved && matches!(after.condition, Condition::Moving { .. }) {
            self.progressing.updated = now;
        }
    }

    pub(super) fn all(&self) -> [(&'static str, &Stamped); 2] {
        [("Available", &self.available), ("Progressing", &self.progressing)]
    }
}

fn lower(set: &str) -> String {
    set.replacen("ReplicaSet", "replica set", 1)
}

impl Stamped {
    fn take(&mut self, status: &'static str, reason: &'static str, message: String, now: Duration) {
        if (self.status, self.reason, &self.message) != (status, reason, &message) {
            let turned = if self.status == status { self.turned } else { now };
            *self = Stamped { status, reason, message, updated: now, turned };
        }
    }
}
