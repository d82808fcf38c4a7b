//! The progress bar of a server that is started at a terminal; elsewhere there are log lines.

use std::io::{self, IsTerminal as _, Write};

use indicatif::{ProgressBar, ProgressStyle};

use crate::config::Config;
use crate::lifecycle::{Phase, Rx};
use crate::telemetry::LogFormat;

/// Parts of the bar: finer than any terminal is wide.
const LENGTH: u64 = 1000;

/// A bar on stderr, or one that never shows where nobody would see it.
pub fn bar(config: &Config) -> ProgressBar {
    if !io::stderr().is_terminal() || config.log_format == LogFormat::Json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:>24} [{bar:40}] {percent:>3} %");
    ProgressBar::new(LENGTH).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "))
}

/// Draws the way to `serving`, then clears the bar.
pub async fn follow(bar: ProgressBar, mut lifecycle: Rx) {
    loop {
        let snapshot = lifecycle.snapshot();
        if !matches!(snapshot.state.phase, Phase::Starting | Phase::Loading | Phase::Warming) {
            break;
        }
        bar.set_message(snapshot.stage.to_string());
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // 0 to 1000
        bar.set_position((snapshot.progress * LENGTH as f32) as u64);
        if !lifecycle.changed().await {
            break;
        }
    }
    bar.finish_and_clear();
}

/// Writes log lines to stderr, above the bar.
pub struct Writer(pub ProgressBar);

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.is_hidden() {
            return io::stderr().write(bytes); // Whoever draws must not wait for a line.
        }
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
