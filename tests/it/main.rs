//! The one integration binary: real processes, real sockets, real signals.

mod client;
mod database;
mod models;
mod support;

mod check;
mod connection;
mod control;
mod dependency;
mod dependency_probes;
mod digits;
mod drain;
mod encoding;
mod faults;
mod fuzz;
mod grpc;
mod http2;
mod identity;
mod kubelet;
mod lesson_faults;
mod lesson_probes;
mod logs;
mod memory;
mod odd_models;
mod openapi;
mod overload;
mod probe_command;
mod probes;
mod repository;
mod rows;
mod shutdown;
mod start_errors;
mod swap;
mod tidy;
mod trace;
mod v2;
