//! What torchpod ought to reach, cell by cell.

use std::fmt;

use crate::cell::{Figure, Measured, Round};
use crate::model::Body;

/// A figure beside its bound.
pub(crate) struct Verdict {
    pub(crate) what: &'static str,
    pub(crate) figure: Figure,
    pub(crate) bound: Bound,
}

#[derive(Clone, Copy)]
pub(crate) enum Bound {
    Most(f64),
    Least(f64),
}

impl Bound {
    fn met(self, value: f64) -> bool {
        match self {
            Self::Most(bound) => value <= bound,
            Self::Least(bound) => value >= bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Most(bound) => write!(f, "≤ {bound}"),
            Self::Least(bound) => write!(f, "≥ {bound}"),
        }
    }
}

impl Verdict {
    pub(crate) fn word(&self) -> &'static str {
        if self.bound.met(self.figure.median) { "pass" } else { "MISS" }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figure { median, least, most } = self.figure;
        let Self { what, bound, .. } = self;
        write!(f, "{}: {what} {median:.3} ({least:.3} to {most:.3}), target {bound}", self.word())
    }
}

/// Beside a model that computes next to nothing, the server is all that costs.
const JSON_CPU: f64 = 1.10;
const BINARY_CPU: f64 = 1.05;
const THROUGHPUT: f64 = 0.95;
/// Beside bare HTTP and a forward, each measured alone.
const SUM_CPU: f64 = 1.05;
/// What may come on top of bare HTTP and a forward where nobody queues, in microseconds.
const ADDED: f64 = 30.0;
/// A batch that computes for as long hides the server's work.
const LONG_BATCH: f64 = 5000.0; // µs
const HIDDEN: f64 = 0.95;
const SERIAL: f64 = 0.85;
const HEAVY_CPU: f64 = 1.03;
/// Rows that are waiting at once, enough to keep a heavy model busy.
const SATURATED: usize = 8;
/// Many clients with one row each come to share their batches.
const CROWD: u32 = 64;
const CROWD_ROWS: f64 = 16.0;

/// torchpod's CPU time a request.
pub(crate) fn cpu(measured: &Measured, round: &Round) -> f64 {
    round.cpu_micros_per_row * measured.rows()
}

/// The targets that the cell has, if any.
pub(crate) fn of(measured: &Measured) -> Vec<Verdict> {
    let cell = &measured.cell;
    let (model, binary) = (cell.model, cell.body == Body::Binary);
    let mut verdicts = Vec::new();
    let mut add = |what, bound, of: &dyn Fn(&Round) -> f64| {
        verdicts.push(Verdict { what, figure: measured.figure(of), bound });
    };
    if model.name == "mlp" && cell.rows == 1 && cell.connections == 32 {
        let bound = Bound::Most(if binary { BINARY_CPU } else { JSON_CPU });
        add("CPU ÷ bare", bound, &|round| cpu(measured, round) / round.bare.cpu_micros);
        add("requests/s ÷ bare", Bound::Least(THROUGHPUT), &|round| {
            round.torchpod.requests_per_second / round.bare.requests_per_second
        });
    }
    if model.name == "digits" && cell.rows == 1 && cell.connections > 1 {
        add("CPU ÷ (bare + loop)", Bound::Most(SUM_CPU), &|round| {
            cpu(measured, round) / (round.bare.cpu_micros + measured.forward_cpu(round))
        });
    }
    if !model.heavy && cell.rows == 1 && cell.connections == 1 {
        add("p50 − (bare + loop), µs", Bound::Most(ADDED), &|round| {
            round.torchpod.p50() - round.bare.p50() - round.forward.p50_micros
        });
    }
    if model.heavy && binary && cell.rows_at_once() >= SATURATED {
        add("CPU a row ÷ loop", Bound::Most(HEAVY_CPU), &|round| {
            round.cpu_micros_per_row / round.forward.cpu_micros_per_row
        });
    }
    if model.name == "resnet18" && cell.rows == 1 && cell.connections >= CROWD {
        add("rows a batch", Bound::Least(CROWD_ROWS), &|round| round.rows_per_batch);
    }
    if cell.rows == 32 && binary && cell.connections >= 8 {
        let long = measured.median(|round| round.forward.p50_micros) >= LONG_BATCH;
        let rows = measured.rows();
        if long {
            add("rows/s ÷ loop", Bound::Least(HIDDEN), &|round| {
                round.torchpod.requests_per_second * rows / round.forward.rows_per_second
            });
        } else {
            add("rows/s ÷ 1/(1/bare + 1/loop)", Bound::Least(SERIAL), &|round| {
                let (bare, forward) = (round.bare.requests_per_second * rows, round.forward.rows_per_second);
                round.torchpod.requests_per_second * rows * (1.0 / bare + 1.0 / forward)
            });
        }
    }
    verdicts
}
