//! Logs: written to stderr by a thread of their own, since nobody shall wait for a reader that has stopped reading, and
//! through a filter that can be replaced while they are.

use std::io::{IsTerminal as _, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use clap::ValueEnum;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry};

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
static FILTER: OnceLock<Handle<EnvFilter, Registry>> = OnceLock::new();

/// Sends logs, panics among them, to `writer`, which ends at stderr.
pub fn init(format: LogFormat, filter: EnvFilter, writer: impl Write + Send + 'static) {
    let (writer, guard) =
        NonBlockingBuilder::default().buffered_lines_limit(WAITING_LINES).thread_name("logs").finish(writer);
    let _ = DROPPED.set(writer.error_counter());
    *WRITER.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
    let (filter, handle) = reload::Layer::new(filter);
    let _ = FILTER.set(handle);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false); // To a stderr that refuses a line there is nothing to report, and trying panics.
    let lines = match format {
        LogFormat::Pretty => lines.pretty().boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_ansi(false).boxed(),
        LogFormat::Compact => lines.compact().with_target(false).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    // The standard hook writes lines of its own to stderr, which a pipeline that expects JSON cannot read.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let thread = std::thread::current().name().map(str::to_owned);
        tracing::error!(thread, place, reason = panic.payload_as_str(), "panic");
    }));
}

/// A filter in the syntax of `RUST_LOG`, e.g. `info,torchpod::http=debug`.
///
/// # Errors
/// What was expected.
pub fn filter(text: &str) -> Result<EnvFilter, String> {
    let filter = EnvFilter::builder().parse(text);
    filter.map_err(|error| format!("{text}: {error}; write info or info,torchpod::http=debug"))
}

/// The filter as it is now. Empty before [`init`].
pub fn current() -> String {
    let text = |handle: &Handle<EnvFilter, Registry>| handle.with_current(ToString::to_string).ok();
    FILTER.get().and_then(text).unwrap_or_default()
}

/// From now on, `filter` says what is logged.
pub fn replace(filter: EnvFilter) {
    // The subscriber lives as long as the process.
    FILTER.get().map(|handle| handle.reload(filter));
}

/// Writes what waits, as far as that takes no longer than a second. Later lines are lost.
pub fn flush() {
    drop(WRITER.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// Lines that nobody read in time.
pub(super) fn dropped_lines() -> u64 {
    DROPPED.get().map_or(0, |dropped| dropped.dropped_lines() as u64)
}
