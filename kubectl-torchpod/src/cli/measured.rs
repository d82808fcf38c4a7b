//! What was measured of a server, or is told of it, as every verb takes it.

use std::fmt::Display;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::lint;

#[derive(Debug, Args)]
pub(super) struct Measured {
    /// How long a container takes until its model serves, such as 45s
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "report")]
    load_time: Option<Duration>,

    /// What `torchpod check --json` printed, to take the load time from
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl Measured {
    /// The load time, where it is told; else what is wrong with the report.
    pub(super) fn load_time(&self) -> Result<Option<Duration>, String> {
        let Some(path) = &self.report else { return Ok(self.load_time) };
        let wrong = |error: &dyn Display| format!("--report {}: {error}", path.display());
        let text = fs::read_to_string(path).map_err(|error| wrong(&error))?;
        lint::load_time(&text).map(Some).map_err(|error| wrong(&error))
    }
}
