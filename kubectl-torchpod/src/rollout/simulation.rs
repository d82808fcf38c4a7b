//! A rollout in a made-up cluster: controllers, scheduler and kubelets that take as long as real ones do, one event after
//! the other. It ends when nothing can happen any more, and says why when that is too early.

mod deployment;
mod event;
pub mod latency;
mod pod;
mod record;
mod set;
mod user;
mod world;

use std::time::Duration;

pub use record::{End, Outcome, Step, View, What};
pub use user::Act;

use super::budget::Budget;
use super::node::Needs;
use super::probe::{Load, Probes};
use super::spec::Spec;

/// What is there at the beginning, and what somebody does to it.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub workloads: Vec<Workload>,
    pub nodes: usize,
    /// On each node.
    pub gpus: u32,
    /// What the namespace may use, in the order of `Workload::asks`.
    pub quota: Vec<i128>,
    pub actions: Vec<Planned>,
    pub phase: Phase,
}

/// Something that somebody does, `at` so long after the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    pub at: Duration,
    pub workload: usize,
    pub act: Act,
}

/// What a cluster's clocks show at the beginning. It decides on up to a second here and there, and nobody can know it
/// beforehand.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    /// Until the first node's kubelet lists its containers.
    pub listing: Duration,
    /// How far the second has come.
    pub second: Duration,
}

impl Default for Phase {
    /// Listed 0.81 s later, as in the middle one of the recordings; and as much of the second has passed as makes a
    /// rollout with minReadySeconds about as long as the middle one of all that it might be.
    fn default() -> Phase {
        Phase { listing: Duration::from_millis(810), second: Duration::from_millis(750) }
    }
}

/// A Deployment, its pods and how its versions behave.
#[derive(Clone, Debug)]
pub struct Workload {
    pub spec: Spec,
    pub start: Start,
    /// By template, the first one first.
    pub versions: Vec<Load>,
    pub probes: Probes,
    /// Whether its pods mount anything.
    pub volumes: bool,
    /// From SIGTERM, or from the start of preStop, to the container's end.
    pub stop: Duration,
    pub needs: Needs,
    /// What a pod takes of each quota.
    pub asks: Vec<i128>,
    pub budget: Option<Budget>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Its first version runs, and is fully available.
    Running,
    /// There is nothing of it: it is made at the beginning.
    Absent,
}

/// Plays a scenario to its end.
pub fn run(scenario: &Scenario) -> Outcome {
    world::World::new(scenario).run()
}
