//! What `torchpod check` prints: a table for people, or the same as JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::model::Version;
use crate::model::row_wise::RowWise;

/// Seconds between two questions of the startup probe that is proposed.
const PERIOD: u64 = 5;
/// The least that a startup probe allows, in seconds.
const FLOOR: u64 = 60;

/// Everything that was measured.
pub(super) struct Report {
    pub(super) library: String,
    /// What opening the engine took.
    pub(super) opened: Duration,
    pub(super) versions: Vec<Checked>,
}

pub(super) struct Checked {
    pub(super) model: String,
    pub(super) version: String,
    /// `None` where the file cannot be read.
    pub(super) digest: Option<String>,
    /// What was measured, or why the version cannot be served.
    pub(super) measured: Result<Measured, String>,
}

pub(super) struct Measured {
    pub(super) version: Arc<Version>,
    pub(super) loaded: Duration,
    /// All instances, one after the other, as they start.
    pub(super) warmed: Duration,
    /// Bytes.
    pub(super) memory: u64,
}

/// One version, as JSON has it.
#[derive(Serialize)]
struct Row {
    model: String,
    version: String,
    digest: Option<String>,
    /// Why it cannot be served; the fields below are missing then.
    problem: Option<String>,
    #[serde(flatten)]
    measured: Option<Numbers>,
}

#[derive(Serialize)]
struct Numbers {
    device: String,
    inputs: Vec<Port>,
    /// As the last warm-up run had them, with -1 for the batch.
    outputs: Vec<Port>,
    /// `None` until the first request.
    row_wise: Option<bool>,
    row_wise_reason: String,
    load_seconds: f64,
    warm_up_seconds: f64,
    /// By batch size, in rows.
    warm_up_p50_seconds: BTreeMap<usize, f64>,
    memory_bytes: u64,
}

#[derive(Serialize)]
struct Port {
    name: String,
    dtype: String,
    shape: String,
}

#[derive(Serialize)]
struct StartupProbe {
    period_seconds: u64,
    failure_threshold: u64,
    /// What was measured: opening the engine, loading, and warming up.
    measured_seconds: f64,
}

#[derive(Serialize)]
struct Whole<'a> {
    library: &'a str,
    engine_seconds: f64,
    models: Vec<Row>,
    /// `None` where a version failed: nobody knows what it would take.
    startup_probe: Option<StartupProbe>,
}

impl Checked {
    fn row(&self) -> Row {
        Row {
            model: self.model.clone(),
            version: self.version.clone(),
            digest: self.digest.clone(),
            problem: self.measured.as_ref().err().cloned(),
            measured: self.measured.as_ref().ok().map(Measured::numbers),
        }
    }
}

impl Measured {
    fn numbers(&self) -> Numbers {
        let (version, proof) = (&self.version, self.version.proof());
        let independence = version.independence();
        let inputs = version.spec.inputs.iter().map(|port| Port {
            name: port.name.clone(),
            dtype: port.dtype.map_or("any".to_owned(), |dtype| dtype.to_string()),
            shape: port.shape_text(),
        });
        let outputs = proof.outputs.iter().map(|(name, layout)| {
            let mut shape: Vec<String> = layout.shape.iter().map(ToString::to_string).collect();
            if let Some(rows) = shape.first_mut().filter(|_| version.row_wise()) {
                "-1".clone_into(rows);
            }
            Port { name: name.clone(), dtype: layout.dtype.to_string(), shape: format!("[{}]", shape.join(", ")) }
        });
        Numbers {
            device: version.device.to_string(),
            inputs: inputs.collect(),
            outputs: outputs.collect(),
            row_wise: independence.map(RowWise::holds),
            row_wise_reason: independence.map_or("the first request will show", RowWise::reason).to_owned(),
            load_seconds: self.loaded.as_secs_f64(),
            warm_up_seconds: self.warmed.as_secs_f64(),
            warm_up_p50_seconds: proof
                .runs
                .into_iter()
                .filter_map(|(rows, runs)| Some((rows, median(runs)?)))
                .collect(),
            memory_bytes: self.memory,
        }
    }
}

fn median(mut runs: Vec<Duration>) -> Option<f64> {
    runs.sort();
    runs.get(runs.len() / 2).map(Duration::as_secs_f64)
}

impl Report {
    pub(super) fn failed(&self) -> usize {
        self.versions.iter().filter(|version| version.measured.is_err()).count()
    }

    /// What a start of all of them takes.
    fn measured(&self) -> Duration {
        let each = self.versions.iter().filter_map(|version| version.measured.as_ref().ok());
        self.opened + each.map(|measured| measured.loaded + measured.warmed).sum::<Duration>()
    }

    pub(super) fn json(&self) -> String {
        let measured = self.measured();
        let whole = Whole {
            library: &self.library,
            engine_seconds: self.opened.as_secs_f64(),
            models: self.versions.iter().map(Checked::row).collect(),
            startup_probe: (self.failed() == 0).then(|| StartupProbe {
                period_seconds: PERIOD,
                failure_threshold: failure_threshold(measured),
                measured_seconds: measured.as_secs_f64(),
            }),
        };
        // Texts and numbers always serialise.
        serde_json::to_string_pretty(&whole).unwrap_or_default() + "\n"
    }

    /// For a terminal of so many columns; as wide as it comes where there is none.
    pub(super) fn text(&self, columns: Option<u16>) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        if let Some(columns) = columns {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
        }
        table.set_header(["model", "inputs", "outputs", "row-wise", "load", "warm-up\np50", "memory"]);
        // Sentences would tear the table.
        let (mut problems, mut notes) = (String::new(), String::new());
        for checked in &self.versions {
            let row = checked.row();
            let id = format!("{}@{}", row.model, row.version);
            if let Some(problem) = &row.problem {
                let named = if problem.contains(&id) { String::new() } else { format!("{id}: ") };
                // Writing to a String cannot fail.
                let _ = writeln!(problems, "{named}{problem}");
            }
            let reason = row.measured.as_ref().map_or("", |numbers| &numbers.row_wise_reason);
            if !reason.is_empty() {
                let _ = writeln!(notes, "{id}, row-wise: {reason}");
            }
            table.add_row(cells(&row));
        }
        // Eighty columns are few.
        table.column_iter_mut().for_each(|column| {
            column.set_padding((0, 1));
        });
        let mut text = format!("{table}\n{notes}");
        if !problems.is_empty() {
            let _ = write!(text, "\n{problems}");
            return text;
        }
        let (seconds, threshold) = (self.measured().as_secs_f64(), failure_threshold(self.measured()));
        let _ = write!(
            text,
            "\nstartupProbe:\n  httpGet: {{ path: /startup, port: 8080 }}\n  periodSeconds: {PERIOD}\n  \
             failureThreshold: {threshold}  # {}\n",
            why(threshold, seconds, &self.library)
        );
        text
    }
}

/// The arithmetic behind the threshold, for whoever finds it in a manifest.
fn why(threshold: u64, seconds: f64, library: &str) -> String {
    let limit = threshold * PERIOD;
    let floor = if limit == FLOOR { "; at least a minute" } else { "" };
    format!("{threshold} × {PERIOD} s = {limit} s: 3 × the {seconds:.1} s to open {library}, load and warm up{floor}")
}

fn cells(row: &Row) -> Vec<String> {
    let digest = row.digest.as_deref().map(|digest| digest.trim_start_matches("sha256:").chars().take(12).collect());
    let digest: String = digest.unwrap_or_default();
    let mut cells = vec![format!("{}@{}\n{digest}", row.model, row.version)];
    let Some(numbers) = &row.measured else {
        cells.extend(["failed, see below".to_owned()]);
        return cells;
    };
    let ports = |ports: &[Port]| {
        let texts = ports.iter().map(|port| match port.dtype.as_str() {
            "any" => format!("{}: any", port.name),
            // Without blanks, a shape is never broken over lines.
            dtype => format!("{}: {dtype} {}", port.name, port.shape.replace(' ', "")),
        });
        texts.collect::<Vec<_>>().join("\n")
    };
    let row_wise = match numbers.row_wise {
        Some(true) => "yes",
        Some(false) => "no",
        None => "not known",
    };
    let p50 = numbers.warm_up_p50_seconds.iter().map(|(rows, seconds)| format!("{rows}: {:.1} ms", seconds * 1e3));
    cells.extend([
        ports(&numbers.inputs),
        ports(&numbers.outputs),
        row_wise.to_owned(),
        format!("{:.2} s", numbers.load_seconds),
        p50.collect::<Vec<_>>().join("\n"),
        format!("{} MiB", numbers.memory_bytes >> 20),
    ]);
    cells
}

/// What a startup probe should allow, in periods: three times what was measured, and a minute at least.
fn failure_threshold(measured: Duration) -> u64 {
    let tripled = measured * 3;
    (tripled.as_secs() + u64::from(tripled.subsec_nanos() > 0)).div_ceil(PERIOD).max(FLOOR / PERIOD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_up_probe_allows_three_times_what_was_measured_and_a_minute_at_least() {
        for (millis, threshold) in [(0, 12), (1_000, 12), (20_000, 12), (20_001, 13), (100_000, 60)] {
            assert_eq!(failure_threshold(Duration::from_millis(millis)), threshold, "{millis}");
        }
    }

    #[test]
    fn the_table_fits_its_terminal() {
        let failed = |model: &str| Checked {
            model: model.to_owned(),
            version: "1".to_owned(),
            digest: Some("sha256:0123456789abcdef".to_owned()),
            measured: Err("why".to_owned()),
        };
        let versions = vec![failed("a-model-with-a-name-that-is-as-long-as-a-line-of-a-terminal-may-be")];
        let report = Report { library: String::new(), opened: Duration::ZERO, versions };
        let widest = |columns| report.text(columns).lines().map(|line| line.chars().count()).max().unwrap();
        assert_eq!(widest(Some(80)), 80);
        assert!(widest(None) > 80, "nothing is broken where nobody looks at it in a terminal");
    }

    #[test]
    fn the_comment_of_the_probe_adds_up() {
        assert_eq!(
            why(12, 0.27, "libtorch"),
            "12 × 5 s = 60 s: 3 × the 0.3 s to open libtorch, load and warm up; at least a minute"
        );
        assert_eq!(why(13, 20.5, "libtorch"), "13 × 5 s = 65 s: 3 × the 20.5 s to open libtorch, load and warm up");
    }
}
