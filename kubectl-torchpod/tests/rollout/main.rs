//! Rollouts run for real, on the cluster of `loopback`: a load goes on all the while, and counts what is lost.
//!
//! Tests that CI runs have few pods and probes that are asked ten times as often; `make soak` runs the ignored ones, at
//! the size and the pace that the manifests say.

mod blue_green;
mod broken;
mod canary;
mod disruption;
mod e2e;
mod flagger;
mod recreate;
mod rolling;
mod tutorial;
