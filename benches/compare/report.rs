//! What a run says, on the terminal and in RESULTS.md: the same text.

use std::fmt::Write as _;

use crate::compute::{Batch, REST};
use crate::load::Sample;
use crate::plan::{Measured, Pair, ROUNDS, SECONDS};
use crate::probes::{self, PROBES};
use crate::resnet::{self, Resnet};
use crate::startup::{Life, STARTS};
use crate::table::{Table, median};

const FIRST_ANSWER_TARGET: f64 = 20.0;
const READY_TARGET: f64 = 1500.0;
const ADDED_LATENCY_TARGET: f64 = 150.0;
const PROBE_P99_TARGET: f64 = 20.0;
const PROBE_SLOWEST_TARGET: f64 = 250.0;

pub(crate) fn text(lives: &[Life], measured: &Measured, resnet: &Resnet) -> String {
    let mut text = String::from("# Benchmark\n\nWritten by `make bench`; NOTES.md says how to read it.\n\n");
    let library = measured.loops.first().map_or("", |done| &done.library);
    // Writing to a String cannot fail.
    let _ = write!(
        text,
        "Machine: {}. Its cores are shared with the load generator, so ratios mean something and absolutes do not.\n\n\
         ## Load\n\nMedians of {ROUNDS} rounds of {SECONDS} s each, by wrk on one thread over loopback; latencies and CPU time \
         a request in µs. `bare` is an axum handler that reads the same body and has torchpod's answer at hand.\n\n{}\n\
         ## Compute\n\nThe same model in a libtorch loop on one thread, without a server; medians of {ROUNDS} \
         rounds. Rested: each forward after a sleep of {} µs, as between two requests of one client.\n\n{}\n{}\n\
         ## Batching\n\nA ResNet-18 of [3, 224, 224], {} connections with one raw row a request for {} s, between \
         two runs of the loop on as many threads, at the size that was its best; medians of {} rounds, CPU time in ms.\n\n{}\n\
         ## Start-up and end\n\nOf {STARTS} starts, in ms; a new connection asks /ready 1 ms after each answer.\n\n{}\n\
         ## Probes under saturation\n\nOf {PROBES} probes on each listener, in ms from connect to last byte, each on a new connection, while \
         {} connections ask for {} rows at a time. Targets: p99 ≤ {PROBE_P99_TARGET} ms, none above {PROBE_SLOWEST_TARGET} ms.\n\n{}\n\
         ## Memory\n\nResident, in MiB. Pages of files, such as libtorch's code, are shared between processes.\n\n{}",
        machine(library),
        load(measured),
        REST.as_micros(),
        compute(measured),
        added(measured),
        resnet::CONNECTIONS,
        resnet::SECONDS,
        resnet::ROUNDS,
        resnet.table(),
        startup(lives),
        probes::CONNECTIONS,
        probes::ROWS,
        probe_table(measured),
        memory(measured),
    );
    text
}

fn machine(library: &str) -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let cpu =
        cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("?", |(_, cpu)| cpu);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease");
    // Behind the numbers stands the name of whoever built it.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    format!("{cpu}, {cores} cores, Linux {kernel}, {library}")
}

/// What is compared, by its column.
type Column = fn(&Sample) -> f64;
const COLUMNS: [(&str, Column); 4] = [
    ("requests/s", |sample| sample.requests_per_second),
    ("p50", |sample| sample.p50_micros),
    ("p99", |sample| sample.p99_micros),
    ("CPU/request", |sample| sample.cpu_micros),
];

fn middle(samples: &[Sample], column: Column) -> f64 {
    median(samples.iter().map(column))
}

fn load(measured: &Measured) -> Table {
    let names = COLUMNS.map(|(name, _)| name);
    let mut table = Table::new(&[&["rows × connections", "server"], &names[..], &["rows/batch", "not 2xx"]].concat());
    for pair in &measured.pairs {
        let cell = format!("{} × {}", pair.cell.rows, pair.cell.connections);
        let mut row = |server: &str, figures: [String; 4], rows: String, failed: String| {
            table.row([vec![cell.clone(), server.to_owned()], figures.to_vec(), vec![rows, failed]].concat());
        };
        let failed = |samples: &[Sample]| samples.iter().map(|sample| sample.failed).sum::<f64>().to_string();
        let figures = |samples: &[Sample]| COLUMNS.map(|(_, column)| format!("{:.0}", middle(samples, column)));
        row("bare", figures(&pair.bare), String::new(), failed(&pair.bare));
        let rows = format!("{:.1}", pair.batches.mean_rows());
        row("torchpod", figures(&pair.torchpod), rows, failed(&pair.torchpod));
        let ratios = COLUMNS.map(|(_, column)| format!("{:.2}", ratio(pair, column)));
        row("torchpod ÷ bare", ratios, String::new(), String::new());
    }
    table
}

fn ratio(pair: &Pair, column: Column) -> f64 {
    middle(&pair.torchpod, column) / middle(&pair.bare, column)
}

/// The median over rounds of the batch at `index`, by `field`.
fn forward(measured: &Measured, index: usize, field: fn(&Batch) -> f64) -> f64 {
    median(measured.loops.iter().filter_map(|done| done.batches.get(index).map(field)))
}

fn compute(measured: &Measured) -> Table {
    let mut table = Table::new(&["rows a batch", "rows/s", "p50 of a forward, µs", "rested p50, µs", "CPU a row, µs"]);
    let Some(first) = measured.loops.first() else { return table };
    for (index, batch) in first.batches.iter().enumerate() {
        table.row([
            batch.rows.to_string(),
            format!("{:.0}", forward(measured, index, |batch| batch.rows_per_second)),
            format!("{:.1}", forward(measured, index, |batch| batch.p50_micros)),
            format!("{:.1}", forward(measured, index, |batch| batch.rested_p50_micros.unwrap_or(f64::NAN))),
            format!("{:.1}", forward(measured, index, |batch| batch.cpu_micros_per_row)),
        ]);
    }
    table
}

/// What torchpod adds to HTTP and to computing, where nobody queues.
fn added(measured: &Measured) -> String {
    let Some(alone) = measured.pairs.iter().find(|pair| pair.cell.rows == 1 && pair.cell.connections == 1) else {
        return String::new();
    };
    let p50: Column = |sample| sample.p50_micros;
    let (torchpod, bare) = (middle(&alone.torchpod, p50), middle(&alone.bare, p50));
    let compute = forward(measured, 0, |batch| batch.p50_micros);
    let added = torchpod - compute;
    let cold = forward(measured, 0, |batch| batch.rested_p50_micros.unwrap_or(f64::NAN)) - compute;
    let verdict = if added <= ADDED_LATENCY_TARGET { "pass" } else { "MISS" };
    format!(
        "Added latency of one row on one connection, by medians: torchpod {torchpod:.0} µs − forward {compute:.0} µs = \
         **{added:.0} µs** (target ≤ {ADDED_LATENCY_TARGET:.0}: {verdict}). Of that, HTTP alone is {bare:.0} µs, as `bare` \
         has it, and a rested forward takes {cold:.0} µs more than one in a loop.\n"
    )
}

fn startup(lives: &[Life]) -> Table {
    let mut table = Table::new(&["", "median", "slowest", "target", "verdict"]);
    let mut row = |name: &str, field: fn(&Life) -> f64, target: Option<f64>| {
        let slowest = lives.iter().map(field).fold(0.0, f64::max);
        let middle = median(lives.iter().map(field));
        let verdict = target.map_or("", |target| if middle <= target { "pass" } else { "MISS" });
        let target = target.map(|target| format!("≤ {target:.0}")).unwrap_or_default();
        table.row([name.to_owned(), format!("{middle:.1}"), format!("{slowest:.1}"), target, verdict.to_owned()]);
    };
    row("exec to first answered probe", |life| life.first_answer, Some(FIRST_ANSWER_TARGET));
    row("exec to ready", |life| life.ready, Some(READY_TARGET));
    row("slowest probe of a start", |life| life.slowest_probe, None);
    row("SIGTERM to exit, --drain-delay 0s", |life| life.end, None);
    table
}

fn probe_table(measured: &Measured) -> Table {
    let mut table = Table::new(&["listener", "load", "p50", "p99", "slowest", "not 200", "verdict"]);
    for answers in &measured.probes {
        let [p50, p99, slowest] = [0.5, 0.99, 1.0].map(|share| answers.quantile(share));
        let pass = p99 <= PROBE_P99_TARGET && slowest <= PROBE_SLOWEST_TARGET && answers.failed == 0;
        table.row([
            answers.listener.to_owned(),
            answers.load.to_owned(),
            format!("{p50:.2}"),
            format!("{p99:.2}"),
            format!("{slowest:.2}"),
            answers.failed.to_string(),
            if pass { "pass" } else { "MISS" }.to_owned(),
        ]);
    }
    table
}

fn memory(measured: &Measured) -> Table {
    let mut table = Table::new(&["process", "when", "resident", "anonymous", "files"]);
    for resident in &measured.residents {
        let memory = resident.memory;
        let sizes =
            [memory.resident, memory.anonymous, memory.file].map(|kib| format!("{:.1}", f64::from(kib) / 1024.0));
        table.row([vec![resident.whose.to_owned(), resident.when.to_owned()], sizes.to_vec()].concat());
    }
    table
}
