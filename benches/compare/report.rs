//! What a run says, on the terminal and in RESULTS.md: the same text.

use std::fmt::Write as _;

use crate::cell::{Cell, Figure, MOST_JSON, Measured, Round};
use crate::compute::{Batch, REST};
use crate::load::Sample;
use crate::parse::Parsing;
use crate::plan::{self, ROUNDS};
use crate::probes::{self, PROBES};
use crate::sight;
use crate::startup::{Life, STARTS};
use crate::table::{Table, median};
use crate::target::{self, Verdict};

const FIRST_ANSWER_TARGET: f64 = 20.0;
const READY_TARGET: f64 = 1500.0;
const PROBE_P99_TARGET: f64 = 20.0;
const PROBE_SLOWEST_TARGET: f64 = 250.0;

/// All that is told.
pub(crate) struct Run<'a> {
    pub(crate) lives: Vec<Life>,
    pub(crate) parsing: Parsing,
    pub(crate) cells: &'a plan::Run,
    pub(crate) sight: Vec<(Cell, Verdict)>,
    /// How costs grow, and milliseconds of CPU time in a minute of rest, in a whole run.
    pub(crate) growth: Option<(Vec<Verdict>, f64)>,
    pub(crate) left_out: Vec<Cell>,
}

pub(crate) fn text(told: &Run) -> String {
    let run = told.cells;
    let verb = if told.growth.is_some() { "make bench-full" } else { "make bench" };
    let library = run.loops.first().map_or("", |done| &done.library);
    let mut text = format!(
        "# Benchmark\n\nWritten by `{verb}`; NOTES.md says how to read it.\n\n\
         Machine: {}. Its cores are shared with the load generator, so ratios mean something and absolutes do not.\n\n",
        machine(library)
    );
    let mut section = |title: &str, about: &str, table: &Table| {
        // Writing to a String cannot fail.
        let _ = write!(text, "## {title}\n\n{about}\n\n{table}\n");
    };
    section(
        "Targets",
        &format!("Medians of {ROUNDS} rounds, and their ends."),
        &targets(&run.cells, &told.parsing.verdict),
    );
    section("torchpod ÷ bare and loop", &about_ratios(&told.left_out), &ratios(run));
    section(
        "Figures",
        "By wrk on one thread over loopback; latencies and CPU time a request in µs. The loop's latency is that of a \
         whole batch.",
        &figures(run),
    );
    section(
        "Compute",
        &format!(
            "The digits in the loop; medians of {ROUNDS} rounds. Rested: each forward after a sleep of {} µs, as between \
             two requests of one client.",
            REST.as_micros()
        ),
        &compute(run),
    );
    section(
        "Parsing",
        "Rows of 64 floats with all their digits, into tensors, and by the others into a vector of each row.",
        &told.parsing.table,
    );
    section(
        "Start-up and end",
        &format!("Of {STARTS} starts, in ms; a new connection asks /ready 1 ms after each answer."),
        &startup(&told.lives),
    );
    section("Probes under saturation", &about_probes(), &probe_table(run));
    section(
        "Memory",
        "Resident, in MiB. Pages of files, such as libtorch's code, are shared between processes.",
        &memory(run),
    );
    text += &seen(&told.sight);
    if let Some((verdicts, rest)) = &told.growth {
        text += &growth(verdicts, *rest);
    }
    text
}

/// What it costs to be seen.
pub(crate) fn seen(verdicts: &[(Cell, Verdict)]) -> String {
    let mut table = Table::new(&["cell", "figure", "median", "rounds", "target", "verdict"]);
    for (cell, verdict) in verdicts {
        table.row([&[cell.to_string(), verdict.what.to_owned()][..], &judged(verdict)].concat());
    }
    format!("## Sight\n\n{}\n\n{table}\n", sight::about())
}

/// How costs grow, and milliseconds of CPU time in a minute of rest.
pub(crate) fn growth(verdicts: &[Verdict], rest: f64) -> String {
    let mut table = Table::new(&["", "median", "rounds", "target", "verdict"]);
    for verdict in verdicts {
        table.row([&[verdict.what.to_owned()][..], &judged(verdict)].concat());
    }
    format!(
        "## Growth\n\nThe MLP, 32 connections; medians and ends of ratios within rounds.\n\n{table}\n\
         ## Rest\n\nA server that nobody asks takes {rest:.1} ms of CPU time in a minute.\n"
    )
}

fn about_ratios(left_out: &[Cell]) -> String {
    let mut about = String::from(
        "`bare` is an axum handler that reads the same body and has torchpod's answer at hand; `loop` calls the same model \
         on one thread, at the batch size that torchpod reached, without a server. Medians of the rounds' ratios.\n\n\
         ![Requests per second of torchpod and of a bare axum handler, from one connection on](throughput.svg)\n\n\
         ![The share of requests that were answered within a time, for both](latency.svg)",
    );
    if !left_out.is_empty() {
        let names: Vec<String> = left_out.iter().map(Cell::to_string).collect();
        let _ = write!(
            about,
            "\n\nLeft out, as JSON of more than {MOST_JSON} numbers or queues of minutes: {}.",
            names.join("; ")
        );
    }
    about
}

fn about_probes() -> String {
    format!(
        "Of {PROBES} probes on each listener, in ms from connect to last byte, each on a new connection, while {} \
         connections ask for {} rows at a time. Targets: p99 ≤ {PROBE_P99_TARGET} ms, none above {PROBE_SLOWEST_TARGET} ms.",
        probes::CONNECTIONS,
        probes::ROWS
    )
}

/// Median, ends, target and word.
pub(crate) fn judged(verdict: &Verdict) -> [String; 4] {
    let Figure { median, least, most } = verdict.figure;
    let ends = format!("{} to {}", figure(least), figure(most));
    [figure(median), ends, verdict.bound.to_string(), verdict.word().to_owned()]
}

pub(crate) fn machine(library: &str) -> String {
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

fn targets(cells: &[Measured], parsing: &Verdict) -> Table {
    let mut table = Table::new(&["cell", "figure", "median", "rounds", "target", "verdict"]);
    for measured in cells {
        for verdict in target::of(measured) {
            let names = [measured.cell.to_string(), verdict.what.to_owned()];
            table.row([&names[..], &judged(&verdict)].concat());
        }
    }
    table.row([&[String::new(), parsing.what.to_owned()][..], &judged(parsing)].concat());
    table
}

/// Three or four digits.
pub(crate) fn figure(value: f64) -> String {
    let digits = match value.abs() {
        ..2.0 => 3,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}

fn ratios(run: &plan::Run) -> Table {
    let header = [
        "model, rows × connections, body",
        "requests/s",
        "p50",
        "p99",
        "CPU",
        "CPU ÷ (bare + loop)",
        "rows/s ÷ loop",
        "rows/batch",
    ];
    let mut table = Table::new(&header);
    for measured in &run.cells {
        // Beside a model that computes for most of a second, the bare server says nothing.
        let ratio = |of: fn(&Measured, &Round) -> f64| {
            if measured.cell.model.heavy { String::new() } else { figure(measured.median(|round| of(measured, round))) }
        };
        table.row([
            measured.cell.to_string(),
            ratio(|_, round| round.torchpod.requests_per_second / round.bare.requests_per_second),
            ratio(|_, round| round.torchpod.p50() / round.bare.p50()),
            ratio(|_, round| round.torchpod.p99() / round.bare.p99()),
            ratio(|measured, round| target::cpu(measured, round) / round.bare.cpu_micros),
            figure(
                measured.median(|round| {
                    target::cpu(measured, round) / (round.bare.cpu_micros + measured.forward_cpu(round))
                }),
            ),
            figure(
                measured.median(|round| {
                    round.torchpod.requests_per_second * measured.rows() / round.forward.rows_per_second
                }),
            ),
            format!("{:.1}", measured.median(|round| round.rows_per_batch)),
        ]);
    }
    table
}

type Server = (&'static str, fn(&Round) -> &Sample);

/// What the ratios are of.
fn figures(run: &plan::Run) -> Table {
    let header = ["model, rows × connections, body", "server", "requests/s", "p50", "p99", "CPU/request", "not 2xx"];
    let mut table = Table::new(&header);
    for measured in &run.cells {
        let middle = |of: &dyn Fn(&Round) -> f64| figure(measured.median(of));
        let servers: [Server; 2] = [("bare", |round| &round.bare), ("torchpod", |round| &round.torchpod)];
        for (name, sample) in servers {
            table.row([
                measured.cell.to_string(),
                name.to_owned(),
                middle(&|round| sample(round).requests_per_second),
                middle(&|round| sample(round).p50()),
                middle(&|round| sample(round).p99()),
                middle(&|round| if name == "bare" { round.bare.cpu_micros } else { target::cpu(measured, round) }),
                measured.rounds.iter().map(|round| sample(round).failed).sum::<f64>().to_string(),
            ]);
        }
        table.row([
            measured.cell.to_string(),
            "loop".to_owned(),
            middle(&|round| round.forward.rows_per_second / measured.rows()),
            middle(&|round| round.forward.p50_micros),
            String::new(),
            middle(&|round| measured.forward_cpu(round)),
            String::new(),
        ]);
    }
    table
}

/// The median over rounds of the batch at `index`, by `field`.
fn forward(run: &plan::Run, index: usize, field: fn(&Batch) -> f64) -> f64 {
    median(run.loops.iter().filter_map(|done| done.batches.get(index).map(field)))
}

fn compute(run: &plan::Run) -> Table {
    let mut table = Table::new(&["rows a batch", "rows/s", "p50 of a forward, µs", "rested p50, µs", "CPU a row, µs"]);
    let Some(first) = run.loops.first() else { return table };
    for (index, batch) in first.batches.iter().enumerate() {
        table.row([
            batch.rows.to_string(),
            format!("{:.0}", forward(run, index, |batch| batch.rows_per_second)),
            format!("{:.1}", forward(run, index, |batch| batch.p50_micros)),
            format!("{:.1}", forward(run, index, |batch| batch.rested_p50_micros.unwrap_or(f64::NAN))),
            format!("{:.1}", forward(run, index, |batch| batch.cpu_micros_per_row)),
        ]);
    }
    table
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

fn probe_table(run: &plan::Run) -> Table {
    let mut table = Table::new(&["listener", "load", "p50", "p99", "slowest", "not 200", "verdict"]);
    for answers in &run.probes {
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

fn memory(run: &plan::Run) -> Table {
    let mut table = Table::new(&["process", "when", "resident", "anonymous", "files"]);
    for resident in &run.residents {
        let memory = resident.memory;
        let sizes =
            [memory.resident, memory.anonymous, memory.file].map(|kib| format!("{:.1}", f64::from(kib) / 1024.0));
        table.row([vec![resident.whose.to_owned(), resident.when.to_owned()], sizes.to_vec()].concat());
    }
    table
}
