//! The least that a forward costs: one thread that calls the model through torchpod's own engine, and nothing around it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use torchpod::engine::{Device, Instance, Layout, Source, loader};
use torchpod::tensor::DType;

use crate::model;
use crate::process::{self, Memory};
use crate::table::median;

pub(crate) const ROLE: &str = "compute";

/// What a worker's thread sleeps between two requests of one client, about.
pub(crate) const REST: Duration = Duration::from_micros(150);

/// What a child calls, and how.
#[derive(Serialize, Deserialize)]
pub(crate) struct Subject {
    /// The name of one of the benchmark's models.
    pub(crate) model: String,
    /// The bytes of a request of clients, of which each batch takes as much as it needs, again and again.
    pub(crate) values: PathBuf,
    pub(crate) batches: Vec<usize>,
    /// Computed on the first GPU in this type, channels last; else on the CPU as the model has it.
    pub(crate) on_gpu: Option<String>,
    /// Intra-op.
    pub(crate) threads: usize,
    /// How long each way to call is measured.
    pub(crate) seconds: f64,
    /// Whether to call after a rest, too.
    pub(crate) rested: bool,
    /// Forwards before the clock starts: libtorch profiles the first two of each shape.
    pub(crate) warm_up: usize,
}

/// What one child measured.
#[derive(Serialize, Deserialize)]
pub(crate) struct Loop {
    /// The tensor library and its version.
    pub(crate) library: String,
    pub(crate) batches: Vec<Batch>,
    pub(crate) memory: Memory,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) rows: usize,
    pub(crate) rows_per_second: f64,
    /// Of one forward, its input's copy in and its output's copy out.
    pub(crate) p50_micros: f64,
    /// The same after a rest, when caches have gone cold and the core may sleep.
    pub(crate) rested_p50_micros: Option<f64>,
    pub(crate) cpu_micros_per_row: f64,
}

impl Batch {
    /// The middle of two measurements.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            rows: other.rows,
            rows_per_second: f64::midpoint(self.rows_per_second, other.rows_per_second),
            p50_micros: f64::midpoint(self.p50_micros, other.p50_micros),
            rested_p50_micros: other.rested_p50_micros,
            cpu_micros_per_row: f64::midpoint(self.cpu_micros_per_row, other.cpu_micros_per_row),
        }
    }
}

pub(crate) fn run(subject: &Subject) -> Result<Loop> {
    let mut child = Command::new(std::env::current_exe()?);
    let output =
        child.arg(ROLE).arg(serde_json::to_string(subject)?).stderr(std::process::Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the libtorch loop failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

pub(crate) fn child(mut args: impl Iterator<Item = String>) -> Result<()> {
    let subject: Subject = serde_json::from_str(&args.next().context("no subject")?)?;
    let model = model::named(&subject.model)?;
    let file = model.file()?;
    let engine_dir = process::executable().parent().map(Path::to_owned);
    let cuda = subject.on_gpu.is_some();
    let engine = loader::open(&loader::Options { engine_dir, cuda, ..loader::Options::default() })?;
    let precision = subject.on_gpu.as_deref().and_then(DType::from_name);
    let device = if cuda { Device::Cuda(0) } else { Device::Cpu };
    let source = Source { precision, channels_last: model.channels_last()?, ..Source::of(&file, device) };
    let loaded = engine.load(&source, &mut |_, _| {})?;
    let mut instance = loaded.instance(subject.threads)?;
    let batches =
        subject.batches.iter().map(|rows| measure(instance.as_mut(), &subject, *rows)).collect::<Result<_>>()?;
    let memory = process::memory(std::process::id())?;
    let done = Loop { library: engine.about().library.clone(), batches, memory };
    println!("{}", serde_json::to_string(&done)?);
    Ok(())
}

fn measure(instance: &mut dyn Instance, subject: &Subject, rows: usize) -> Result<Batch> {
    let model = model::named(&subject.model)?;
    let shape = [&[rows], model.row].concat();
    let layout = Layout::new(model.dtype(), shape).context("numbers have a size")?;
    let size = model.dtype().size().context("numbers have a size")? * rows * model.row.iter().product::<usize>();
    let input: Vec<u8> = std::fs::read(&subject.values)?.into_iter().cycle().take(size).collect();
    let mut forward = || -> Result<Duration> {
        let started = Instant::now();
        let mut slot = instance.slot(std::slice::from_ref(&layout))?;
        slot.input(0).copy_from_slice(&input);
        std::hint::black_box(slot.run()?);
        Ok(started.elapsed())
    };
    for _ in 0..subject.warm_up {
        forward()?;
    }
    let (started, cpu) = (Instant::now(), process::cpu(std::process::id())?);
    let took = repeat(&mut forward, subject.seconds, Duration::ZERO)?;
    let wall = started.elapsed().as_secs_f64();
    let cpu = process::cpu(std::process::id())? - cpu;
    let computed = f64::from(u32::try_from(rows * took.len())?);
    let rested = subject.rested.then(|| repeat(&mut forward, subject.seconds, REST)).transpose()?;
    Ok(Batch {
        rows,
        rows_per_second: computed / wall,
        p50_micros: median(took),
        rested_p50_micros: rested.map(median),
        cpu_micros_per_row: cpu / computed,
    })
}

/// What each forward took, in microseconds.
fn repeat(forward: &mut dyn FnMut() -> Result<Duration>, seconds: f64, rest: Duration) -> Result<Vec<f64>> {
    let (started, mut took) = (Instant::now(), Vec::new());
    while started.elapsed().as_secs_f64() < seconds {
        if !rest.is_zero() {
            std::thread::sleep(rest);
        }
        took.push(forward()?.as_secs_f64() * 1e6);
    }
    Ok(took)
}
