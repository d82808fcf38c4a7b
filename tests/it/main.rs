//! The one integration binary: real processes, real sockets, real signals.

mod client;
mod database;
mod support;

mod connection;
mod dependency;
mod digits;
mod faults;
mod fuzz;
mod http2;
mod probes;
mod shutdown;
mod start_errors;
mod tidy;
