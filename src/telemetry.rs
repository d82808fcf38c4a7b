//! What the server tells the outside about itself: logs here, metrics in `metrics`.

pub mod metrics;

pub use metrics::Telemetry;

use std::io::IsTerminal as _;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

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

/// Sends logs, panics among them, to `writer`, which ends at stderr. `filter` has the syntax of `RUST_LOG`, e.g.
/// `info,torchpod::http=debug`.
pub fn init_logs<W>(format: LogFormat, filter: EnvFilter, writer: W)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
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
