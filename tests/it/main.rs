//! The one integration binary: real processes, real sockets, real signals.

mod support;
