//! The one integration binary: real processes, real sockets, real signals.

mod client;
mod support;

mod connection;
mod digits;
mod drain;
mod fuzz;
mod http2;
mod probes;
mod shutdown;
mod start_errors;
mod tidy;
