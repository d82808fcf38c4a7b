//! Rollouts run for real: a cluster on loopback, made of real `torchpod serve` processes, each on an address of its own.
//! What a cluster does around them is small and honest: a kubelet that asks the manifest's probes, controllers that do
//! what `kubectl_torchpod::rollout` computes, and rules for traffic that lag behind, as measured on real nodes. A load
//! goes on all the while, and counts what is lost.
//!
//! Tests that CI runs have few pods and probes that are asked five times as often; `make soak` runs the ignored ones, at
//! the size and the pace that the manifests say.

#[path = "../../../tests/it/client.rs"]
#[allow(dead_code)] // The server's own tests use all of it.
mod client;

mod cluster;
mod deployment;
mod kubelet;
mod load;
mod manifest;
mod network;
mod pod;
mod process;
mod route;
mod scale;
mod state;

mod blue_green;
mod broken;
mod canary;
mod disruption;
mod recreate;
mod rolling;
mod tutorial;
