//! What the server tells the outside about itself: logs here, metrics in `metrics`, what they are called in `table`.

mod cgroup;
mod exposition;
mod figures;
mod gpu;
pub mod metrics;
mod process;
mod runtime;
mod spread;
pub mod statistics;
pub mod table;

pub use metrics::Telemetry;

use std::io::{IsTerminal as _, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use clap::ValueEnum;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people, over several lines.
    Pretty,
    /// For log pipelines: one object a line.
    Json,
    /// For people: one line each.
    Compact,
}

/// Lines that wait for the reader of stderr. Where it has stopped reading, further ones are dropped and counted.
const WAITING_LINES: usize = 10_000;

/// The thread that writes them.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Sends logs, panics among them, to `writer`, which ends at stderr. `filter` has the syntax of `RUST_LOG`, e.g.
/// `info,torchpod::http=debug`.
///
/// A thread of its own writes the lines: nobody waits for a reader that has stopped reading.
pub fn init_logs(format: LogFormat, filter: EnvFilter, writer: impl Write + Send + 'static) {
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).thread_name("logs").finish(writer);
    let _ = DROPPED.set(writer.error_counter());
    *WRITER.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .log_internal_errors(false) // To a stderr that refuses a line there is nothing to report, and trying panics.
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Pretty => builder.pretty().init(),
        LogFormat::Json => builder.json().flatten_event(true).with_ansi(false).init(),
        LogFormat::Compact => builder.compact().with_target(false).init(),
    }
    // The standard hook writes lines of its own to stderr, which a pipeline that expects JSON cannot read.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let thread = std::thread::current().name().map(str::to_owned);
        tracing::error!(thread, place, reason = panic.payload_as_str(), "panic");
    }));
}

/// Writes what waits, as far as that takes no longer than a second. Later lines are lost.
pub fn flush_logs() {
    drop(WRITER.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// Lines that nobody read in time.
fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |dropped| dropped.dropped_lines() as u64)
}
