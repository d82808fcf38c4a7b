//! The least that a forward costs: one thread that calls the model through torchpod's own engine, and nothing around it.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use torchpod::engine::{Device, Instance, Layout, loader};
use torchpod::model::repository::{self, Given};
use torchpod::tensor::DType;

use crate::HERE;
use crate::process::{self, Memory};
use crate::table::median;

pub(crate) const ROLE: &str = "compute";

const BATCHES: [usize; 3] = [1, 8, 32];
/// How long each of the two ways to call is measured.
const SECONDS: f64 = 0.7;
/// What a worker's thread sleeps between two requests of one client, about.
pub(crate) const REST: Duration = Duration::from_micros(150);
/// Forwards before the clock starts: libtorch profiles the first two of each shape.
const WARM_UP: usize = 50;

/// What one child measured.
#[derive(Serialize, Deserialize)]
pub(crate) struct Loop {
    /// The tensor library and its version.
    pub(crate) library: String,
    pub(crate) batches: Vec<Batch>,
    pub(crate) memory: Memory,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Batch {
    pub(crate) rows: usize,
    pub(crate) rows_per_second: f64,
    /// Of one forward, its input's copy in and its output's copy out.
    pub(crate) p50_micros: f64,
    /// The same after a rest, when caches have gone cold and the core may sleep.
    pub(crate) rested_p50_micros: f64,
    pub(crate) cpu_micros_per_row: f64,
}

pub(crate) fn run() -> Result<Loop> {
    let output = Command::new(std::env::current_exe()?).arg(ROLE).stderr(std::process::Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the libtorch loop failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

pub(crate) fn child() -> Result<()> {
    let engine_dir = process::executable().parent().map(Path::to_owned);
    let engine = loader::open(&loader::Options { engine_dir, ..loader::Options::default() })?;
    let found = repository::find(&Path::new(HERE).join("models"), &Given::default())?;
    let digits = found.iter().find(|found| found.name == "digits").context("models/digits is missing")?;
    let model = engine.load(&digits.file, Device::Cpu, &mut |_, _| {})?;
    let mut instance = model.instance(1)?;
    let batches = BATCHES.iter().map(|rows| measure(instance.as_mut(), *rows)).collect::<Result<_>>()?;
    let memory = process::memory(std::process::id())?;
    let done = Loop { library: engine.about().library.clone(), batches, memory };
    println!("{}", serde_json::to_string(&done)?);
    Ok(())
}

fn measure(instance: &mut dyn Instance, rows: usize) -> Result<Batch> {
    let layout = Layout { dtype: DType::Fp32, shape: vec![rows, 8, 8] };
    let input = vec![0; layout.bytes()];
    let mut forward = || -> Result<Duration> {
        let started = Instant::now();
        let mut slot = instance.slot(std::slice::from_ref(&layout))?;
        slot.input(0).copy_from_slice(&input);
        std::hint::black_box(slot.run()?);
        Ok(started.elapsed())
    };
    for _ in 0..WARM_UP {
        forward()?;
    }
    let (started, cpu) = (Instant::now(), process::cpu(std::process::id())?);
    let took = repeat(&mut forward, Duration::ZERO)?;
    let wall = started.elapsed().as_secs_f64();
    let cpu = process::cpu(std::process::id())? - cpu;
    let computed = f64::from(u32::try_from(rows * took.len())?);
    Ok(Batch {
        rows,
        rows_per_second: computed / wall,
        p50_micros: median(took),
        rested_p50_micros: median(repeat(&mut forward, REST)?),
        cpu_micros_per_row: cpu / computed,
    })
}

/// What each forward took, in microseconds.
fn repeat(forward: &mut dyn FnMut() -> Result<Duration>, rest: Duration) -> Result<Vec<f64>> {
    let (started, mut took) = (Instant::now(), Vec::new());
    while started.elapsed().as_secs_f64() < SECONDS {
        if !rest.is_zero() {
            std::thread::sleep(rest);
        }
        took.push(forward()?.as_secs_f64() * 1e6);
    }
    Ok(took)
}
