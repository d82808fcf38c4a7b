//! One kind of load, and what came of it, round by round.

use std::fmt;

use anyhow::{Context as _, Result};

use crate::compute;
use crate::load::Sample;
use crate::model::{self, Body, Model};
use crate::table::median;

/// Numbers in a JSON body: a million are 12 MB of digits.
pub(crate) const MOST_JSON: usize = 1_000_000;

#[derive(Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) model: &'static Model,
    pub(crate) rows: usize,
    pub(crate) body: Body,
    pub(crate) connections: u32,
}

impl Cell {
    pub(crate) fn new(model: &str, rows: usize, body: Body, connections: u32) -> Result<Self> {
        Ok(Self { model: model::named(model)?, rows, body, connections })
    }

    /// `MODEL ROWS json|binary CONNECTIONS`, as on a command line.
    pub(crate) fn parse(words: &[String]) -> Result<Self> {
        const USAGE: &str = "expected MODEL ROWS json|binary CONNECTIONS";
        let [model, rows, body, connections] = words else { anyhow::bail!("{USAGE}, got {words:?}") };
        let body = Body::ALL.into_iter().find(|known| known.name() == body).context(USAGE)?;
        Self::new(model, rows.parse().context(USAGE)?, body, connections.parse().context(USAGE)?)
    }

    /// Whether anybody would want its figures: no JSON of many megabytes, and no queue of a minute.
    pub(crate) fn is_sensible(&self) -> bool {
        let elements = self.rows * self.model.row.iter().product::<usize>();
        let is_small = self.body == Body::Binary || elements <= MOST_JSON;
        is_small && self.rows_at_once() <= self.model.most_rows
    }

    /// The rows that clients can have waiting at once.
    pub(crate) fn rows_at_once(&self) -> usize {
        self.rows * self.connections as usize
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, rows, body, connections } = self;
        write!(f, "{}, {rows} × {connections}, {}", model.name, body.name())
    }
}

/// What was measured within seconds of each other, so that it can be compared: the machine's speed drifts.
pub(crate) struct Round {
    pub(crate) bare: Sample,
    pub(crate) torchpod: Sample,
    /// That of another binary, where one was asked for.
    pub(crate) beside: Option<Sample>,
    /// The server's CPU time a row, over all rows that it computed, those of clients that wrk broke off included.
    pub(crate) cpu_micros_per_row: f64,
    pub(crate) rows_per_batch: f64,
    /// The libtorch loop at that batch size.
    pub(crate) forward: compute::Batch,
}

pub(crate) struct Measured {
    pub(crate) cell: Cell,
    pub(crate) rounds: Vec<Round>,
}

/// The middle of a figure's rounds, and their ends.
#[derive(Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Figure {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        Self {
            least: values.iter().copied().fold(f64::INFINITY, f64::min),
            most: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            median: median(values),
        }
    }
}

impl Measured {
    pub(crate) fn figure(&self, of: impl Fn(&Round) -> f64) -> Figure {
        Figure::of(self.rounds.iter().map(of))
    }

    pub(crate) fn median(&self, of: impl Fn(&Round) -> f64) -> f64 {
        self.figure(of).median
    }

    /// The loop's CPU time for the rows of one request.
    pub(crate) fn forward_cpu(&self, round: &Round) -> f64 {
        round.forward.cpu_micros_per_row * self.rows()
    }

    #[allow(clippy::cast_precision_loss)] // tens
    pub(crate) fn rows(&self) -> f64 {
        self.cell.rows as f64
    }

    /// Requests of either server that were not answered with 2xx, and broken connections.
    pub(crate) fn failed(&self) -> f64 {
        self.rounds.iter().map(|round| round.bare.failed + round.torchpod.failed).sum()
    }
}
