//! `make bench`: torchpod beside a bare axum handler and a bare libtorch loop, in one run that ends by itself.
//!
//! The way of a run: `plan` says which cells are measured, of the loads in `cell` and the models in `model`; `stage` puts
//! a model's servers under them; `bare` and `compute` are what torchpod is compared with (children of this binary), `load`
//! drives the servers with wrk, `startup` starts and ends torchpod; `target` says what it ought to reach, `report` what
//! came out.

mod bare;
mod cell;
mod compute;
mod load;
mod metric;
mod model;
mod plan;
mod probes;
mod process;
mod report;
mod request;
mod short;
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
        None if asked => compare(),
        None => Ok(()),
        Some(word) => anyhow::bail!("{word:?} is no part of the benchmark"),
    }
}

fn compare() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    eprintln!("starting and ending torchpod {} times", startup::STARTS);
    let startup = startup::measure(scratch.path())?;
    let run = plan::run(&plan::short()?, scratch.path())?;
    let report = report::text(&startup, &run);
    println!("{report}");
    let failed = run.failed();
    ensure!(failed == 0.0, "{failed} requests were not answered with 2xx: the figures above do not count");
    let results = Path::new(HERE).join("benches/RESULTS.md");
    std::fs::write(&results, report).context("benches/RESULTS.md cannot be written")
}
