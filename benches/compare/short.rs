//! `cargo bench --bench compare -- cell MODEL ROWS json|binary CONNECTIONS [ROUNDS]`: one cell, for whoever works on speed.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::cell::{Cell, Figure, Measured, Round};
use crate::load::Sample;
use crate::stage::Stage;
use crate::table::Table;
use crate::target;

const ROUNDS: usize = 5;

pub(crate) fn run(words: &[String]) -> Result<()> {
    let (cell, rounds) = words.split_at(words.len().min(4));
    let cell = Cell::parse(cell)?;
    let rounds = rounds.first().map_or(Ok(ROUNDS), |rounds| rounds.parse().context("ROUNDS is a number"))?;
    let scratch = tempfile::tempdir()?;
    let mut stage = Stage::set(cell.model, &[cell], scratch.path())?;
    if let Some(file) = std::env::var_os("BESIDE") {
        stage.put_beside(Path::new(&file))?;
    }
    stage.warm_up()?;
    for _ in 0..rounds {
        stage.round()?;
    }
    for measured in stage.end() {
        print!("{}", table(&measured));
        for verdict in target::of(&measured) {
            println!("{verdict}");
        }
    }
    Ok(())
}

/// Another binary's figures, and what torchpod's are of them.
fn beside(measured: &Measured, table: &mut Table) {
    let of = |of: &dyn Fn(&Sample) -> f64| measured.median(|round| round.beside.as_ref().map_or(f64::NAN, of));
    let ratio = |of: &dyn Fn(&Sample) -> f64| {
        spread(
            measured.figure(|round| round.beside.as_ref().map_or(f64::NAN, |beside| of(&round.torchpod) / of(beside))),
        )
    };
    table.row([
        "beside".to_owned(),
        format!("{:.0}", of(&|sample| sample.requests_per_second)),
        format!("{:.1}", of(&Sample::p50)),
        format!("{:.1}", of(&Sample::p99)),
        format!("{:.1}", of(&|sample| sample.cpu_micros)),
        String::new(),
        of(&|sample| sample.failed).to_string(),
    ]);
    table.row([
        "torchpod ÷ beside".to_owned(),
        ratio(&|sample| sample.requests_per_second),
        ratio(&Sample::p50),
        ratio(&Sample::p99),
        ratio(&|sample| sample.cpu_micros),
        String::new(),
        String::new(),
    ]);
}

/// The servers' figures, and their ratios with the spread over rounds.
fn table(measured: &Measured) -> Table {
    let title = measured.cell.to_string();
    let mut table = Table::new(&[&title, "requests/s", "p50 µs", "p99 µs", "CPU µs/request", "rows/batch", "not 2xx"]);
    let plain = |of: fn(&Round) -> f64| format!("{:.1}", measured.median(of));
    table.row([
        "bare".to_owned(),
        format!("{:.0}", measured.median(|round| round.bare.requests_per_second)),
        plain(|round| round.bare.p50()),
        plain(|round| round.bare.p99()),
        plain(|round| round.bare.cpu_micros),
        String::new(),
        measured.rounds.iter().map(|round| round.bare.failed).sum::<f64>().to_string(),
    ]);
    table.row([
        "torchpod".to_owned(),
        format!("{:.0}", measured.median(|round| round.torchpod.requests_per_second)),
        plain(|round| round.torchpod.p50()),
        plain(|round| round.torchpod.p99()),
        format!("{:.1}", measured.median(|round| round.cpu_micros_per_row * measured.rows())),
        plain(|round| round.rows_per_batch),
        measured.rounds.iter().map(|round| round.torchpod.failed).sum::<f64>().to_string(),
    ]);
    table.row([
        "loop at that batch".to_owned(),
        format!("{:.0}", measured.median(|round| round.forward.rows_per_second / measured.rows())),
        plain(|round| round.forward.p50_micros),
        String::new(),
        format!("{:.1}", measured.median(|round| measured.forward_cpu(round))),
        String::new(),
        String::new(),
    ]);
    let ratio = |of: fn(&Round) -> f64| spread(measured.figure(of));
    table.row([
        "torchpod ÷ bare".to_owned(),
        ratio(|round| round.torchpod.requests_per_second / round.bare.requests_per_second),
        ratio(|round| round.torchpod.p50() / round.bare.p50()),
        ratio(|round| round.torchpod.p99() / round.bare.p99()),
        spread(measured.figure(|round| target::cpu(measured, round) / round.bare.cpu_micros)),
        String::new(),
        String::new(),
    ]);
    table.row([
        "torchpod ÷ (bare + loop)".to_owned(),
        String::new(),
        ratio(|round| round.torchpod.p50() / (round.bare.p50() + round.forward.p50_micros)),
        String::new(),
        spread(
            measured
                .figure(|round| target::cpu(measured, round) / (round.bare.cpu_micros + measured.forward_cpu(round))),
        ),
        String::new(),
        String::new(),
    ]);
    if measured.rounds.iter().any(|round| round.beside.is_some()) {
        beside(measured, &mut table);
    }
    table
}

pub(crate) fn spread(figure: Figure) -> String {
    format!("{:.3} ({:.2}–{:.2})", figure.median, figure.least, figure.most)
}
