//! The one integration binary: real processes, real sockets, real signals.

mod client;
mod database;
mod support;

mod check;
mod connection;
mod dependency;
mod dependency_probes;
mod digits;
mod drain;
mod faults;
mod fuzz;
mod grpc;
mod http2;
mod kubelet;
mod lesson_faults;
mod lesson_probes;
mod logs;
mod odd_models;
mod probe_command;
mod probes;
mod repository;
mod shutdown;
mod start_errors;
mod tidy;
