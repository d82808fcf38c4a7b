//! `make bench`: torchpod beside a bare axum handler and a bare libtorch loop, in one run that ends by itself.
//!
//! The way of a run: `plan` says what is measured, `bare` and `compute` are what torchpod is compared with (children of
//! this binary), `load` drives the servers with wrk, `startup` starts and ends torchpod, `report` says what came out.

mod bare;
mod compute;
mod load;
mod metric;
mod plan;
mod probes;
mod process;
mod report;
mod request;
mod resnet;
mod startup;
mod table;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some(bare::ROLE) => bare::child(args),
        Some(compute::ROLE) => compute::child(args),
        // For whoever works on batching: `cargo bench --bench compare -- batching`.
        Some("batching") => batching(),
        // `cargo bench` says `--bench`; `cargo test --all-targets` does not, and wants no benchmark.
        Some("--bench") => compare(),
        _ => Ok(()),
    }
}

fn batching() -> Result<()> {
    print!("{}", resnet::measure(tempfile::tempdir()?.path())?.table());
    Ok(())
}

fn compare() -> Result<()> {
    let scratch = tempfile::tempdir()?;
    eprintln!("starting and ending torchpod {} times", startup::STARTS);
    let startup = startup::measure(scratch.path())?;
    let measured = plan::run(scratch.path())?;
    let resnet = resnet::measure(scratch.path())?;
    let report = report::text(&startup, &measured, &resnet);
    println!("{report}");
    let failed = measured.failed() + resnet.failed();
    ensure!(failed == 0.0, "{failed} requests were not answered with 2xx: the figures above do not count");
    let results = Path::new(HERE).join("benches/RESULTS.md");
    std::fs::write(&results, report).context("benches/RESULTS.md cannot be written")
}
