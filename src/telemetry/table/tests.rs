//! `docs/metrics.md` says what the table says.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use super::*;
use crate::telemetry::metrics::{KEPT, ROWS_BUCKETS, SECONDS_BUCKETS};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");

fn page() -> String {
    let list = |ends: &[f64]| ends.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut page = format!(
        "<!-- Written by `make metrics` from src/telemetry/table.rs. -->\n\n\
         # Metrics\n\n\
         `GET /metrics` tells them to Prometheus, on the main port and on `--probe-listen`. Nothing that clients send makes\n\
         a series: models and versions are those that were loaded. The series of a version that has left stay until {KEPT}\n\
         later ones have left, too; a version that comes again counts on.\n\n\
         The buckets of histograms end at {} s,\nor at {} rows.\n",
        list(&SECONDS_BUCKETS),
        list(&ROWS_BUCKETS),
    );
    let mut section = "";
    for metric in METRICS {
        if metric.section != section {
            section = metric.section;
            let _ = write!(page, "\n## {section}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n");
        }
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind, labels) = (metric.name, metric.kind.name(), labels.join(", "));
        let _ = writeln!(page, "| `{name}` | {kind} | {labels} | {} |", metric.meaning);
    }
    page
}

#[test]
fn the_page_of_metrics_says_what_the_table_says() {
    if std::env::var_os("WRITE_METRICS").is_some() {
        fs::write(PAGE, page()).unwrap();
    }
    let written = fs::read_to_string(PAGE).unwrap_or_default();
    assert!(written == page(), "docs/metrics.md is not what src/telemetry/table.rs says: `make metrics` writes it");
}

#[test]
fn every_metric_has_one_row_in_one_section() {
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len());
    let mut sections: Vec<_> = METRICS.iter().map(|metric| metric.section).collect();
    sections.dedup();
    assert_eq!(sections.iter().collect::<BTreeSet<_>>().len(), sections.len(), "{sections:?}");
    assert!(METRICS.iter().all(|metric| !metric.meaning.contains('|')), "a bar would end its cell");
}
