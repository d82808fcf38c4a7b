//! `make bench`: torchpod beside a bare axum handler and a bare libtorch loop, in one run that ends by itself.
//!
//! The way of a run: `plan` says which cells are measured, of the loads in `cell` and the models in `model`; `stage` puts
//! a model's servers under them; `bare` and `compute` are what torchpod is compared with (children of this binary), `load`
//! drives the servers with wrk, `startup` starts and ends torchpod; `target` says what it ought to reach, `report` and
//! `picture` what came out. `make bench-full` measures every cell, and with `growth` and `rest` what takes longer.
//! `sight` says what it costs to be seen. `make bench-peers` is `peers`, `make bench-gpu` is `gpu`.

mod bare;
mod cell;
mod compute;
mod gpu;
mod growth;
mod load;
mod metric;
mod model;
mod parse;
mod peers;
mod picture;
mod plan;
mod plot;
mod probes;
mod process;
mod report;
mod request;
mod rest;
mod short;
mod sight;
mod stage;
mod startup;
mod table;
mod target;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

fn main() -> Result<()> {
    // `cargo bench` adds `--bench`; `cargo test --all-targets` does not, and wants no benchmark.
    let asked = std::env::args().any(|word| word == "--bench");
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    match words.next().as_deref() {
        Some(bare::ROLE) => bare::child(words),
        Some(compute::ROLE) => compute::child(words),
        Some("cell") => short::run(&words.collect::<Vec<_>>()),
        Some("gpu") => gpu::run(words.next().as_deref()),
        Some("growth") => growth(),
        Some("sight") => seen(),
        Some(sight::ROLE) => sight::child(),
        Some("peers") => peers::run(words.next()),
        Some("whole") => compare(true),
        None if asked => compare(false),
        None => Ok(()),
        Some(word) => anyhow::bail!("{word:?} is no part of the benchmark"),
    }
}

/// For whoever works on what grows: that part alone.
fn growth() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let verdicts = growth::measure(scratch.path())?;
    print!("{}", report::growth(&verdicts, rest::measure(scratch.path())?));
    Ok(())
}

/// For whoever works on what it costs to be seen: that part alone.
fn seen() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    print!("{}", report::seen(&sight::measure(&plan::seen()?, scratch.path())?));
    Ok(())
}

fn compare(whole: bool) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let scratch = scratch.path();
    eprintln!("starting and ending torchpod {} times", startup::STARTS);
    let lives = startup::measure(scratch)?;
    let (cells, left_out) = if whole { plan::full() } else { (plan::short()?, Vec::new()) };
    let parsing = parse::measure()?;
    let run = plan::run(&cells, scratch)?;
    let sight = sight::measure(&plan::seen()?, scratch)?;
    let growth = if whole { Some((growth::measure(scratch)?, rest::measure(scratch)?)) } else { None };
    let report = report::text(&report::Run { lives, parsing, cells: &run, sight, growth, left_out });
    println!("{report}");
    let failed = run.failed();
    ensure!(failed == 0.0, "{failed} requests were not answered with 2xx: the figures above do not count");
    let benches = Path::new(HERE).join("benches");
    picture::write(&run, &benches)?;
    std::fs::write(benches.join("RESULTS.md"), report).context("benches/RESULTS.md cannot be written")
}
