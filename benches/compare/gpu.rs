//! `make bench-gpu`: torchpod with a heavy model on a GPU, beside a loop around the same engine in a process of its own.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use torchpod::engine::loader;

use crate::cell::Figure;
use crate::compute::{self, Batch, Subject};
use crate::load::{Clients, Driver, Load, Sample};
use crate::model::{self, Body, Model};
use crate::process::{self, Options, Running};
use crate::report::{judged, machine};
use crate::table::Table;
use crate::target::{Bound, Verdict};
use crate::{HERE, request};

const MODEL: &str = "resnet50";
/// As `model.toml` and the engine call them.
const PRECISIONS: [(&str, &str); 2] = [("fp16", "FP16"), ("bf16", "BF16")];
/// The loop's; torchpod's batches are at most of the one with which it is quickest.
const BATCHES: [usize; 5] = [16, 32, 64, 128, 256];
const INSTANCES: [usize; 2] = [1, 2];
const ROUNDS: usize = 3;
/// Of a request.
const ROWS: usize = 8;
/// So many batches' rows wait at once: two in flight, and the next two.
const WAITING: usize = 4;
const THREADS: u32 = 4;
const SECONDS: u32 = 8;

const SATURATION: f64 = 0.95;
const TAIL: f64 = 2.0;

/// One precision's rounds.
struct Outcome {
    precision: &'static str,
    batch: usize,
    rounds: Vec<Round>,
}

struct Round {
    forward: Batch,
    /// By instances.
    saturated: [Sample; 2],
    /// Two instances under half of what they can do.
    half: Sample,
}

pub(crate) fn run(name: Option<String>) -> Result<()> {
    let engine_dir = process::executable().parent().map(Path::to_owned);
    let engine = loader::open(&loader::Options { engine_dir, cuda: true, ..loader::Options::default() })?;
    let about = engine.about();
    ensure!(about.cuda_devices > 0, "there is no GPU to measure: {}", about.cuda_missing);
    let model = model::named(name.as_deref().unwrap_or(MODEL))?;
    let scratch = tempfile::tempdir()?;
    let mut gpu = None;
    let mut outcomes = Vec::new();
    for (precision, dtype) in PRECISIONS {
        outcomes.push(measure(model, precision, dtype, &scratch.path().join(precision), &mut gpu)?);
    }
    let report = text(model, &format!("{}, {}", gpu.as_deref().unwrap_or("a GPU"), machine(&about.library)), &outcomes);
    println!("{report}");
    std::fs::write(Path::new(HERE).join("benches/GPU.md"), report).context("benches/GPU.md cannot be written")
}

fn measure(
    model: &'static Model,
    precision: &'static str,
    dtype: &str,
    scratch: &Path,
    gpu: &mut Option<String>,
) -> Result<Outcome> {
    std::fs::create_dir_all(scratch)?;
    let body = scratch.join("body");
    std::fs::write(&body, model.request(ROWS, Body::Binary)?)?;
    let forward = |batches: &[usize], seconds| {
        eprintln!("{precision}: the loop");
        let (model, values, on_gpu) = (model.name.to_owned(), body.clone(), Some(dtype.to_owned()));
        let batches = batches.to_vec();
        compute::run(&Subject { model, values, batches, on_gpu, threads: 1, seconds, rested: false, warm_up: 10 })
    };
    let quickest = |a: &Batch, b: &Batch| a.rows_per_second.total_cmp(&b.rows_per_second);
    let tried = forward(&BATCHES, 2.0)?.batches;
    let batch = tried.into_iter().max_by(quickest).context("the loop tried no batch")?.rows;
    let serve = |instances: usize| -> Result<Running> {
        let scratch = scratch.join(instances.to_string());
        let folder = model.changed(&scratch, |toml| described(toml, precision, batch, instances))?;
        let server = Running::with(&folder, &scratch, &Options { device: Some("cuda"), ..Options::default() })?;
        server.wait_until_ready()?;
        Ok(server)
    };
    let servers = [serve(INSTANCES[0])?, serve(INSTANCES[1])?];
    *gpu = name(servers[0].address)?;
    let driver = Driver::new(scratch)?;
    let drive = |server: &Running, clients| {
        let content_type = Body::Binary.content_type();
        let load = Load { path: "/predict", body: &body, content_type, header: None, clients, seconds: SECONDS };
        let sample = driver.drive(server, &load)?;
        ensure!(sample.failed == 0.0, "{} requests were not answered with 2xx", sample.failed);
        Ok(sample)
    };
    let connections = u32::try_from((WAITING * batch).div_ceil(ROWS))?.max(THREADS);
    let all = Clients { threads: THREADS, ..Clients::busy(connections) };
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let forward = forward(&[batch], 4.0)?.batches.remove(0);
        eprintln!("{precision}: torchpod");
        let saturated = [drive(&servers[0], all)?, drive(&servers[1], all)?];
        // Four times as many clients, each of whom asks rarely.
        let clients = Clients { connections: 4 * connections, ..all };
        let cycle = f64::from(clients.connections) / (saturated[1].requests_per_second / 2.0);
        let pause = Duration::from_secs_f64((cycle - forward.p50_micros / 1e6).max(0.0));
        let half = drive(&servers[1], Clients { pause, ..clients })?;
        rounds.push(Round { forward, saturated, half });
    }
    Ok(Outcome { precision, batch, rounds })
}

/// The model's description, for a GPU.
fn described(toml: &str, precision: &str, batch: usize, instances: usize) -> String {
    let mut text = format!("precision = \"{precision}\"\nmemory_format = \"channels_last\"\n");
    for line in toml.lines() {
        let _ = match line {
            _ if line.starts_with("max_size") => writeln!(text, "max_size = {batch}"),
            _ if line.starts_with("sizes") => writeln!(text, "sizes = [1, {batch}]"),
            "[instances]" => writeln!(text, "{line}\ncount = {instances}"),
            _ => writeln!(text, "{line}"),
        };
    }
    text
}

/// What the driver calls the first GPU.
fn name(server: SocketAddr) -> Result<Option<String>> {
    let metrics = String::from_utf8(request::get(server, "/metrics")?.body)?;
    let info = metrics.lines().find(|line| line.starts_with("torchpod_gpu_info"));
    Ok(info.and_then(|line| line.split("name=\"").nth(1)?.split('"').next()).map(str::to_owned))
}

impl Outcome {
    fn figure(&self, of: impl Fn(&Round) -> f64) -> Figure {
        Figure::of(self.rounds.iter().map(of))
    }

    fn verdicts(&self) -> [Verdict; 2] {
        let saturation = self.figure(|round| rows(&round.saturated[1]) / round.forward.rows_per_second);
        let tail = self.figure(|round| round.half.p99() / round.forward.p50_micros);
        [
            Verdict { what: "rows/s ÷ loop", figure: saturation, bound: Bound::Least(SATURATION) },
            Verdict { what: "p99 at half load ÷ forward", figure: tail, bound: Bound::Most(TAIL) },
        ]
    }
}

fn rows(sample: &Sample) -> f64 {
    #[allow(clippy::cast_precision_loss)] // eight
    let rows = ROWS as f64;
    sample.requests_per_second * rows
}

fn text(model: &Model, machine: &str, outcomes: &[Outcome]) -> String {
    let mut text = format!(
        "# GPU\n\nWritten by `make bench-gpu`: {} with its channels last, by binary HTTP in requests of {ROWS} rows, beside \
         a loop around the same engine in one process, which copies its input in and its output out. Medians of {ROUNDS} \
         rounds. The batch is the one with which the loop is quickest.\n\nMachine: {machine}.\n\n",
        model.name
    );
    let mut targets = Table::new(&["precision", "figure", "median", "rounds", "target", "verdict"]);
    let mut figures = Table::new(&[
        "precision",
        "batch",
        "loop rows/s",
        "forward, µs",
        "1 instance, rows/s",
        "2 instances, rows/s",
        "2 ÷ 1",
        "half load ÷ full",
        "p50 there, µs",
        "p99 there, µs",
    ]);
    for outcome in outcomes {
        for verdict in outcome.verdicts() {
            let names = [outcome.precision.to_owned(), verdict.what.to_owned()];
            targets.row([&names[..], &judged(&verdict)].concat());
        }
        let whole = |of: &dyn Fn(&Round) -> f64| format!("{:.0}", outcome.figure(of).median);
        let ratio = |of: &dyn Fn(&Round) -> f64| format!("{:.2}", outcome.figure(of).median);
        figures.row([
            outcome.precision.to_owned(),
            outcome.batch.to_string(),
            whole(&|round| round.forward.rows_per_second),
            whole(&|round| round.forward.p50_micros),
            whole(&|round| rows(&round.saturated[0])),
            whole(&|round| rows(&round.saturated[1])),
            ratio(&|round| rows(&round.saturated[1]) / rows(&round.saturated[0])),
            ratio(&|round| rows(&round.half) / rows(&round.saturated[1])),
            whole(&|round| round.half.p50()),
            whole(&|round| round.half.p99()),
        ]);
    }
    let _ = write!(text, "{targets}\n{figures}");
    text
}
