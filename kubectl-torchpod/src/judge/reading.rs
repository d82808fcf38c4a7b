//! What one pod's `/metrics` said at one moment, as far as a canary is judged by it.

use std::collections::BTreeMap;

use super::page;

// As `src/telemetry/table.rs` of the server names them.
const REQUESTS: &str = "torchpod_requests_total";
const BUCKET: &str = "torchpod_request_duration_seconds_bucket";
/// On every page of a torchpod, with or without a model.
const PHASE: &str = "torchpod_phase";

/// Counters of each version of each model since the server's start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    pub(super) series: BTreeMap<(String, String), Counts>,
}

/// Requests by how they ended, and by how long they took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    pub ok: u64,
    /// 4xx.
    pub client_error: u64,
    /// 503.
    pub refused: u64,
    /// 504.
    pub deadline: u64,
    /// 500.
    pub server_error: u64,
    /// How many took at most so many nanoseconds; the last bound is [`ENDLESS`].
    pub within: BTreeMap<u64, u64>,
}

/// The bound that everything is within.
pub const ENDLESS: u64 = u64::MAX;

/// Why a page is no reading.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Unreadable {
    #[error("it has no torchpod_phase, so that it is no torchpod's /metrics")]
    Foreign,
    #[error("line {line} of its /metrics, {text:?}: {why}")]
    Line { line: usize, text: String, why: String },
}

impl Reading {
    /// Reads the text that `GET /metrics` answers.
    ///
    /// # Errors
    /// If it is not a torchpod's, or a line that matters cannot be read.
    pub fn parse(text: &str) -> Result<Reading, Unreadable> {
        let mut reading = Reading::default();
        let mut is_ours = false;
        for (index, line) in text.lines().enumerate() {
            is_ours |= line.starts_with(PHASE);
            if line.starts_with(REQUESTS) || line.starts_with(BUCKET) {
                let why = |why: String| {
                    let text = line.chars().take(120).collect();
                    Unreadable::Line { line: index + 1, text, why }
                };
                let sample = page::sample(line).map_err(|error| why(error.to_string()))?;
                sample.map_or(Ok(()), |sample| reading.take(&sample)).map_err(why)?;
            }
        }
        if is_ours { Ok(reading) } else { Err(Unreadable::Foreign) }
    }

    /// What happened since `earlier`; None if a counter went back. A version that has come since counts from its start,
    /// one that has gone says nothing.
    pub(super) fn since(&self, earlier: &Reading) -> Option<Reading> {
        let slice = |(key, counts): (&(String, String), &Counts)| {
            let before = earlier.series.get(key).cloned().unwrap_or_default();
            Some((key.clone(), counts.since(&before)?))
        };
        self.series.iter().map(slice).collect()
    }

    fn take(&mut self, sample: &page::Sample<'_>) -> Result<(), String> {
        let key = (sample.label("model").to_owned(), sample.label("version").to_owned());
        let count = whole(sample.value)?;
        let counts = self.series.entry(key).or_default();
        if sample.name == BUCKET {
            let bound = nanos(sample.label("le"))?;
            if counts.within.range(..bound).next_back().is_some_and(|(_, below)| *below > count) {
                return Err("it holds less than the bucket before it".to_owned());
            }
            counts.within.insert(bound, count);
        } else {
            // One series for each protocol.
            match sample.label("outcome") {
                "ok" => counts.ok += count,
                "client_error" => counts.client_error += count,
                "refused" => counts.refused += count,
                "deadline" => counts.deadline += count,
                "server_error" => counts.server_error += count,
                // Those who left had no answer to blame; how long they waited is in the histogram.
                _ => {}
            }
        }
        Ok(())
    }
}

impl FromIterator<((String, String), Counts)> for Reading {
    /// From counts of models and versions.
    fn from_iter<T: IntoIterator<Item = ((String, String), Counts)>>(series: T) -> Self {
        Reading { series: series.into_iter().collect() }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A cast that would not fit yields the most.
fn nanos(le: &str) -> Result<u64, String> {
    match le.parse::<f64>() {
        Ok(seconds) if seconds.is_infinite() => Ok(ENDLESS),
        Ok(seconds) if seconds > 0.0 => Ok((seconds * 1e9).round() as u64),
        _ => Err(format!("le={le:?} is no time")),
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Checked here.
fn whole(value: f64) -> Result<u64, String> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2⁵³
    if (0.0..=EXACT).contains(&value) { Ok(value as u64) } else { Err(format!("{value} counts nothing")) }
}

impl Counts {
    fn since(&self, earlier: &Counts) -> Option<Counts> {
        let mut within = BTreeMap::new();
        for (bound, count) in &self.within {
            let before = earlier.within.get(bound).copied().unwrap_or_default();
            within.insert(*bound, count.checked_sub(before)?);
        }
        Some(Counts {
            ok: self.ok.checked_sub(earlier.ok)?,
            client_error: self.client_error.checked_sub(earlier.client_error)?,
            refused: self.refused.checked_sub(earlier.refused)?,
            deadline: self.deadline.checked_sub(earlier.deadline)?,
            server_error: self.server_error.checked_sub(earlier.server_error)?,
            within,
        })
    }

    /// Those that the server had to answer: not the callers' bad ones.
    pub(super) fn answered(&self) -> u64 {
        self.ok + self.refused + self.deadline + self.server_error
    }

    pub(super) fn timed(&self) -> u64 {
        self.within.get(&ENDLESS).copied().unwrap_or_default()
    }
}
