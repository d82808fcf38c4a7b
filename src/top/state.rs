//! What `/console/state` tells, as a client reads it. Apart from the server's own types, which borrow what they tell and
//! are made to be written only.
//!
//! It can be written, too, so that a test sees that what was read is all that was told. A server of another release may
//! lack what is not needed to know how it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct State {
    pub(super) who: String,
    pub(super) version: String,
    pub(super) started: String,
    pub(super) now: String,
    pub(super) phase: String,
    pub(super) seconds: f64,
    #[serde(default)]
    pub(super) transition: String,
    #[serde(default)]
    pub(super) faults: Vec<String>,
    pub(super) probes: Vec<Probe>,
    #[serde(default)]
    pub(super) transitions: Vec<Transition>,
    #[serde(default)]
    pub(super) models: Vec<Model>,
    #[serde(default)]
    pub(super) dependencies: Vec<Dependency>,
    #[serde(default)]
    pub(super) in_flight: u64,
    #[serde(default)]
    pub(super) oldest_batch_seconds: f64,
    #[serde(default)]
    pub(super) request_memory_bytes: u64,
    #[serde(default)]
    pub(super) request_memory_limit_bytes: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Probe {
    pub(super) path: String,
    pub(super) status: u16,
    pub(super) body: Body,
    /// Where it has turned at all, as far as transitions are kept.
    pub(super) since: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Body {
    pub(super) status: String,
    pub(super) phase: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) progress: Option<f64>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Transition {
    pub(super) at: String,
    pub(super) subject: String,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) reason: String,
    /// How long `from` had lasted.
    pub(super) seconds: f64,
    pub(super) startup: u16,
    pub(super) health: u16,
    pub(super) ready: u16,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) device: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) figures: Option<Figures>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Figures {
    pub(super) max_batch_rows: Option<u64>,
    pub(super) queue_requests: u64,
    pub(super) queue_rows: u64,
    pub(super) ok: u64,
    pub(super) failed: u64,
    pub(super) rows: u64,
    pub(super) batches: u64,
    pub(super) latency: Vec<(f64, u64)>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) state: String,
    pub(super) required: bool,
    pub(super) seconds: f64,
    pub(super) checked_seconds_ago: Option<f64>,
    pub(super) latency_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl State {
    /// Whether the probe at `path` passes.
    pub(super) fn passes(&self, path: &str) -> bool {
        self.probes.iter().any(|probe| probe.path == path && probe.passes())
    }

    /// What is being read or warmed, and how much of it is done, from 0 to 1.
    pub(super) fn stage(&self) -> Option<(&str, f64)> {
        self.probes.iter().find_map(|probe| Some((probe.body.stage.as_deref()?, probe.body.progress?)))
    }

    /// How long ago `at` was, by the server's own clock, when this was told.
    pub(super) fn ago(&self, at: &str) -> Option<Duration> {
        let parsed = |text| humantime::parse_rfc3339(text).ok();
        // Its clock may have been set back.
        Some(parsed(&self.now)?.duration_since(parsed(at)?).unwrap_or_default())
    }

    /// Requests and rows that wait for a batch.
    pub(super) fn waiting(&self) -> (u64, u64) {
        let figures = self.models.iter().filter_map(|model| model.figures.as_ref());
        figures.fold((0, 0), |(requests, rows), one| (requests + one.queue_requests, rows + one.queue_rows))
    }

    /// The names of required dependencies that are down.
    pub(super) fn down(&self) -> Vec<&str> {
        let down = self.dependencies.iter().filter(|known| known.required && known.state == "down");
        down.map(|known| known.name.as_str()).collect()
    }
}

impl Probe {
    /// As a kubelet judges it.
    pub(super) fn passes(&self) -> bool {
        (200..400).contains(&self.status)
    }
}

impl Model {
    /// `digits@1`, as logs and metrics call it; a name alone where no version is known yet.
    pub(super) fn id(&self) -> String {
        if self.version.is_empty() { self.name.clone() } else { format!("{}@{}", self.name, self.version) }
    }
}
