//! A cluster on loopback, made of real `torchpod serve` processes, each on an address of its own. What a cluster does
//! around them is small and honest: a kubelet that asks the manifest's probes, controllers that do what
//! `kubectl_torchpod::rollout` computes, and rules for traffic that lag behind, as measured on real nodes. A load can go on
//! all the while, and counts what is lost.

#![allow(clippy::missing_panics_doc)] // It is for tests: what goes wrong is to end them, with all that it can tell.

#[path = "../../../tests/it/client.rs"]
#[allow(dead_code)] // The server's own tests use all of it.
mod client;

mod api;
mod balancer;
mod blueprint;
mod cluster;
mod deployment;
mod history;
mod kubelet;
mod load;
mod manifest;
mod network;
mod object;
mod pod;
mod process;
mod route;
mod scale;
mod service;
mod state;

pub use api::{Api, Asked, Fault};
pub use cluster::Cluster;
pub use deployment::{Deployment, Watched};
pub use load::{Kind, Load, Lost, Tally};
pub use manifest::Rendered;
pub use pod::{Exit, Pod};
pub use process::Version;
pub use route::Route;
pub use scale::Scale;
pub use state::{Evicted, State};
