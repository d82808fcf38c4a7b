//! The one integration binary: real processes, real sockets, real signals.

mod client;
mod support;

mod connection;
mod digits;
mod fuzz;
mod grpc;
mod http2;
mod kubelet;
mod lesson_probes;
mod probe_command;
mod probes;
mod shutdown;
mod start_errors;
mod tidy;
