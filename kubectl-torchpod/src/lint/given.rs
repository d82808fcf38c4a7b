//! What is known beside the manifests: measured times, and the cluster's version.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

/// The newest version that the rules were written for.
const NEWEST: Version = Version { minor: 36 };

#[derive(Debug, Clone)]
pub struct Given {
    /// From the container's start until its model serves.
    pub load_time: Option<Duration>,
    /// From SIGTERM until the last request is answered, of servers that are not torchpod.
    pub drain_time: Option<Duration>,
    pub version: Version,
}

impl Default for Given {
    fn default() -> Given {
        Given { load_time: None, drain_time: None, version: NEWEST }
    }
}

/// A version of Kubernetes, 1.x.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub minor: u32,
}

#[derive(Debug, Error)]
#[error("{0:?} is no version of Kubernetes: it looks like 1.36")]
pub struct NoVersion(String);

impl FromStr for Version {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Version, NoVersion> {
        let rest = text.trim_start_matches('v').strip_prefix("1.");
        let minor = rest.and_then(|rest| rest.split('.').next()?.parse().ok());
        minor.map(|minor| Version { minor }).ok_or_else(|| NoVersion(text.to_owned()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "1.{}", self.minor)
    }
}

/// As much of what `torchpod check --json` prints as is needed here.
#[derive(Debug, Deserialize)]
struct Report {
    /// Null, where a model failed.
    startup_probe: Option<Measured>,
}

#[derive(Debug, Deserialize)]
struct Measured {
    measured_seconds: f64,
}

#[derive(Debug, Error)]
pub enum NoReport {
    #[error("not what `torchpod check --json` prints: {0}")]
    Shape(#[from] serde_json::Error),
    #[error("it says that a model failed, so that nobody knows what a start takes")]
    Failed,
}

/// How long a start takes, from a report of `torchpod check --json`.
pub fn load_time(report: &str) -> Result<Duration, NoReport> {
    let report: Report = serde_json::from_str(report)?;
    let seconds = report.startup_probe.ok_or(NoReport::Failed)?.measured_seconds;
    Duration::try_from_secs_f64(seconds).map_err(|_| NoReport::Failed)
}
