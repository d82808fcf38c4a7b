//! Rollouts: what the Deployment and ReplicaSet controllers do next, as pure functions of a spec, of pods and of the
//! time. Nothing here reads a clock or a file. `simulation` puts a made-up cluster around them; whoever has real pods
//! asks `Controller` instead, and does what it says.
//!
//! Written from the documented behaviour of Kubernetes 1.36, and held against recordings of it (`tests/plan`).

mod budget;
mod controller;
mod deployment;
mod limit;
mod node;
mod probe;
mod progress;
mod proportion;
mod replica;
mod set;
pub mod simulation;
mod spec;

pub use budget::{Budget, Refused};
pub use controller::{Action, Controller, End, Observed};
pub use deployment::{Change, reconcile};
pub use limit::Limiter;
pub use node::{Apart, Needs, NoRoom, Nodes, Owner};
pub use probe::{Fate, Kubelet, Load, Probe, Probes};
pub use progress::{Condition, Progress};
pub use replica::{Candidate, victims};
pub use set::{Set, Status, available_at};
pub use spec::{Spec, Strategy, Template};
