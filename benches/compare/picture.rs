//! The two pictures of a run: what servers answer over the number of clients, and how long a request takes.

use std::path::Path;

use anyhow::Result;

use crate::cell::{Measured, Round};
use crate::load::{PERCENTILES, Sample};
use crate::model::Body;
use crate::plan::Run;
use crate::plot::{self, Panel, Series};
use crate::table::median;

const MODELS: [&str; 2] = ["mlp", "digits"];
type Server = (&'static str, fn(&Round) -> &Sample);
const SERVERS: [Server; 2] = [("bare axum", |round| &round.bare), ("torchpod", |round| &round.torchpod)];
/// Where clients queue, but the load generator does not yet.
const CROWD: u32 = 32;

/// Writes `throughput.svg` and `latency.svg` into `folder`.
pub(crate) fn write(run: &Run, folder: &Path) -> Result<()> {
    plot::write(&folder.join("throughput.svg"), &MODELS.map(|model| throughput(run, model)))?;
    plot::write(&folder.join("latency.svg"), &MODELS.map(|model| latency(run, model)))
}

/// One row of JSON a request: the cells of which every run has some.
fn cells<'a>(run: &'a Run, model: &'a str) -> impl Iterator<Item = &'a Measured> {
    run.cells.iter().filter(move |measured| {
        let cell = measured.cell;
        cell.model.name == model && cell.rows == 1 && cell.body == Body::Json
    })
}

fn throughput(run: &Run, model: &str) -> Panel {
    let series = SERVERS.map(|(name, sample)| {
        let point = |measured: &Measured| {
            let rate = measured.median(|round| sample(round).requests_per_second);
            (f64::from(measured.cell.connections), rate)
        };
        Series { name, points: cells(run, model).map(point).collect() }
    });
    Panel {
        title: format!("{model}, one row of JSON"),
        x: "connections",
        base: 2.0,
        y: "requests/s",
        series: series.into(),
        log: false,
    }
}

fn latency(run: &Run, model: &str) -> Panel {
    let crowd = cells(run, model).find(|measured| measured.cell.connections == CROWD);
    let series = SERVERS.map(|(name, sample)| {
        let point = |(index, share): (usize, f64)| {
            let rounds = crowd.into_iter().flat_map(|measured| &measured.rounds);
            (median(rounds.map(|round| sample(round).latencies[index])), share)
        };
        Series { name, points: PERCENTILES.into_iter().enumerate().map(point).collect() }
    });
    Panel {
        title: format!("{model}, one row of JSON, {CROWD} connections"),
        x: "latency, µs",
        base: 10.0,
        y: "% of requests",
        series: series.into(),
        log: false,
    }
}
