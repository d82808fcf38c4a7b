//! What the server tells the outside about itself: `log` lines, `metrics` (what they are called, in `table`), and `trace`s.

mod cgroup;
mod exposition;
mod figures;
mod gpu;
pub mod log;
pub mod metrics;
mod process;
pub mod protocol;
mod registry;
mod runtime;
pub mod slow;
mod spread;
pub mod statistics;
pub mod table;
pub mod trace;

pub use log::LogFormat;
pub use metrics::Telemetry;
