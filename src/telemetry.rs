//! What the server tells the outside about itself: `log` lines, `metrics`, and `trace`s.

mod exposition;
pub mod log;
pub mod metrics;
pub mod protocol;
pub mod slow;
mod spread;
pub mod statistics;
pub mod trace;

pub use log::LogFormat;
pub use metrics::Telemetry;
