//! The cluster's API server, asked by the clients that it is for: kube-rs and kubectl.

mod fault;
mod kubectl;
mod library;
mod pod;
mod served;
