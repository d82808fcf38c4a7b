//! `make bench-gpu`: torchpod with a heavy model on a GPU, beside a loop around the same engine in a process of its own.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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
    /// What the driver calls the GPU, where it tells.
    gpu: Option<String>,
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

/// torchpod with one and with two instances, and the loop, in one precision.
struct Stage {
    model: &'static Model,
    precision: &'static str,
    dtype: &'static str,
    batch: usize,
    body: PathBuf,
    servers: Vec<Running>,
    driver: Driver,
}

pub(crate) fn run(name: Option<&str>) -> Result<()> {
    let engine_dir = process::executable().parent().map(Path::to_owned);
    let engine = loader::open(&loader::Options { engine_dir, cuda: true, ..loader::Options::default() })?;
    let about = engine.about();
    ensure!(about.cuda_devices > 0, "there is no GPU to measure: {}", about.cuda_missing);
    let model = model::named(name.unwrap_or(MODEL))?;
    let scratch = tempfile::tempdir()?;
    let mut outcomes = Vec::new();
    for (precision, dtype) in PRECISIONS {
        let stage = Stage::set(model, precision, dtype, &scratch.path().join(precision))?;
        let rounds = (0..ROUNDS).map(|_| stage.round()).collect::<Result<_>>()?;
        let gpu = gpu(stage.servers[0].address)?;
        outcomes.push(Outcome { precision, gpu, batch: stage.batch, rounds });
    }
    let report = text(model, &about.library, &outcomes);
    println!("{report}");
    if name.is_none() {
        std::fs::write(Path::new(HERE).join("benches/GPU.md"), report).context("benches/GPU.md cannot be written")?;
    }
    Ok(())
}

impl Stage {
    /// Looks for the batch with which the loop is quickest, and starts both servers with it.
    fn set(model: &'static Model, precision: &'static str, dtype: &'static str, scratch: &Path) -> Result<Self> {
        std::fs::create_dir_all(scratch)?;
        let (body, driver) = (scratch.join("body"), Driver::new(scratch)?);
        std::fs::write(&body, model.request(ROWS, Body::Binary)?)?;
        let mut stage = Self { model, precision, dtype, batch: 0, body, servers: Vec::new(), driver };
        let tried = stage.forward(&BATCHES, 2.0)?.into_iter();
        let quickest = tried.max_by(|a, b| a.rows_per_second.total_cmp(&b.rows_per_second));
        stage.batch = quickest.context("the loop tried no batch")?.rows;
        for instances in INSTANCES {
            let scratch = scratch.join(instances.to_string());
            let folder = stage.folder(instances, &scratch)?;
            let options = Options { device: Some("cuda"), ..Options::default() };
            stage.servers.push(Running::with(&folder, &scratch, &options)?);
        }
        stage.servers.iter().try_for_each(Running::wait_until_ready)?;
        Ok(stage)
    }

    fn folder(&self, instances: usize, scratch: &Path) -> Result<PathBuf> {
        let Self { model, precision, batch, .. } = self;
        let form = format!("precision = \"{precision}\"\n\n[[inputs]]");
        let lines = [
            ("[[inputs]]", form),
            ("max_size", format!("max_size = {batch}")),
            ("[instances]", format!("[instances]\ncount = {instances}")),
            ("sizes", format!("sizes = [1, {batch}]")),
        ];
        model.changed(scratch, &lines)
    }

    fn forward(&self, batches: &[usize], seconds: f64) -> Result<Vec<Batch>> {
        eprintln!("{}: the loop", self.precision);
        let (model, values, on_gpu) = (self.model.name.to_owned(), self.body.clone(), Some(self.dtype.to_owned()));
        let batches = batches.to_vec();
        let subject = Subject { model, values, batches, on_gpu, threads: 1, seconds, rested: false, warm_up: 10 };
        Ok(compute::run(&subject)?.batches)
    }

    fn round(&self) -> Result<Round> {
        let forward = self.forward(&[self.batch], 4.0)?.remove(0);
        eprintln!("{}: torchpod", self.precision);
        let connections = u32::try_from((WAITING * self.batch).div_ceil(ROWS))?.max(THREADS);
        let all = Clients { threads: THREADS, ..Clients::busy(connections) };
        let saturated = [self.drive(&self.servers[0], all)?, self.drive(&self.servers[1], all)?];
        // Four times as many clients, each of whom asks rarely.
        let clients = Clients { connections: 4 * connections, ..all };
        let cycle = f64::from(clients.connections) / (saturated[1].requests_per_second / 2.0);
        let pause = Duration::from_secs_f64((cycle - forward.p50_micros / 1e6).max(0.0));
        let half = self.drive(&self.servers[1], Clients { pause, ..clients })?;
        Ok(Round { forward, saturated, half })
    }

    fn drive(&self, server: &Running, clients: Clients) -> Result<Sample> {
        let (body, content_type) = (&self.body, Body::Binary.content_type());
        let load = Load { path: "/predict", body, content_type, header: None, clients, seconds: SECONDS };
        self.driver.drive_whole(server, &load)
    }
}

/// What the driver calls the first GPU.
fn gpu(server: SocketAddr) -> Result<Option<String>> {
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

fn text(model: &Model, library: &str, outcomes: &[Outcome]) -> String {
    let gpu = outcomes.iter().find_map(|outcome| outcome.gpu.as_deref()).unwrap_or("a GPU");
    let mut text = format!(
        "# GPU\n\nWritten by `make bench-gpu`: {} with its channels last, by binary HTTP in requests of {ROWS} rows, beside \
         a loop around the same engine in one process, which copies its input in and its output out. Medians of {ROUNDS} \
         rounds. The batch is the one with which the loop is quickest.\n\nMachine: {gpu}, {}.\n\n",
        model.name,
        machine(library)
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
