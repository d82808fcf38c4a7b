//! A ReplicaSet, as its Deployment sees it.

use std::time::Duration;

use super::spec::{Spec, Template};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub template: Template,
    /// `spec.replicas`: how many pods it is to have. Decisions are made by this, not by what is there.
    pub size: i32,
    /// What the Deployment wanted when it last set the size (two annotations): `replicas`, and those with the surge.
    pub desired: i32,
    pub most: i32,
    pub status: Status,
}

/// Pods, as the ReplicaSet controller last reported them. Those that are ending count in `terminating` only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    pub replicas: i32,
    pub ready: i32,
    pub available: i32,
    pub terminating: i32,
}

impl Set {
    pub fn new(spec: &Spec, size: i32) -> Set {
        Set { template: spec.template, size, desired: spec.replicas, most: spec.most(), status: Status::default() }
    }

    pub fn resize(&mut self, spec: &Spec, size: i32) {
        (self.size, self.desired, self.most) = (size, spec.replicas, spec.most());
    }
}

impl Status {
    /// Pods whose containers may still run.
    pub fn unfinished(&self) -> i32 {
        self.replicas + self.terminating
    }
}

impl std::iter::Sum for Status {
    fn sum<I: Iterator<Item = Status>>(all: I) -> Status {
        all.fold(Status::default(), |sum, one| Status {
            replicas: sum.replicas + one.replicas,
            ready: sum.ready + one.ready,
            available: sum.available + one.available,
            terminating: sum.terminating + one.terminating,
        })
    }
}

/// When a pod that got ready becomes available. An API server keeps whole seconds, so that a pod may be up to one early.
pub fn available_at(ready: Duration, min_ready: Duration) -> Duration {
    if min_ready.is_zero() { ready } else { Duration::from_secs(ready.as_secs()) + min_ready }
}
