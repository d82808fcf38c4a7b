//! Batching where it pays: a model that keeps the cores busy, many clients with one row each, and the loop beside it that
//! has its batches for free.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::HERE;
use crate::compute::{self, Subject};
use crate::load::{Driver, Load, Sample};
use crate::metric::{self, Batches};
use crate::process::Running;
use crate::table::{Table, median};

/// A shared machine's speed drifts by more than what is looked for: each round compares what was measured within seconds.
pub(crate) const ROUNDS: usize = 7;
pub(crate) const CONNECTIONS: u32 = 64;
/// Long enough for a dozen batches.
pub(crate) const SECONDS: u32 = 10;
/// How long the loop takes each batch size.
const LOOP_SECONDS: f64 = 4.0;

const ROW: [usize; 3] = [3, 224, 224];
const BATCHES: [usize; 5] = [1, 8, 16, 18, 32];
const MEAN_BATCH_TARGET: f64 = 16.0;
/// Of the server's CPU time a row to the loop's, at the loop's best batch size.
const CPU_TARGET: f64 = 1.03;

const MODEL_TOML: &str = r#"
[[inputs]]
name = "image"
dtype = "FP32"
shape = [-1, 3, 224, 224]
[batching]
max_size = 18
[instances]
threads = 1
[warm_up]
sizes = [1, 18]
"#;

pub(crate) struct Resnet {
    /// Every batch size.
    sizes: Vec<compute::Batch>,
    rounds: Vec<Round>,
    batches: Batches,
}

/// The loop at its best batch size, the server, and the loop once more.
struct Round {
    sample: Sample,
    /// A row, in all batches of the round.
    cpu_micros: f64,
    loop_cpu_micros: f64,
}

pub(crate) fn measure(scratch: &Path) -> Result<Resnet> {
    let models = scratch.join("models");
    let folder = models.join("resnet18/1");
    std::fs::create_dir_all(&folder)?;
    std::fs::write(models.join("resnet18/model.toml"), MODEL_TOML)?;
    let file = folder.join("model.pt");
    let script = Path::new(HERE).join("benches/models/resnet18.py");
    let written = Command::new("python3").arg(script).arg(&file).status().context("python3 cannot be started")?;
    ensure!(written.success(), "resnet18.py failed");
    let body = scratch.join("image");
    std::fs::write(&body, image())?;

    let loop_over = |batches: &[usize]| -> Result<Vec<compute::Batch>> {
        let subject = Subject {
            file: file.clone(),
            row: ROW.to_vec(),
            values: body.clone(),
            batches: batches.to_vec(),
            threads: 1,
            seconds: LOOP_SECONDS,
            rested: false,
            warm_up: 3,
        };
        Ok(compute::run(&subject)?.batches)
    };
    eprintln!("ResNet-18 in the libtorch loop, every batch size");
    let sizes = loop_over(&BATCHES)?;
    let cheapest = sizes.iter().min_by(|a, b| a.cpu_micros_per_row.total_cmp(&b.cpu_micros_per_row));
    let best = [cheapest.context("no batch size")?.rows];
    let loop_cpu = || -> Result<f64> { Ok(loop_over(&best)?[0].cpu_micros_per_row) };

    let server = Running::torchpod(&models, scratch)?;
    server.wait_until_ready()?;
    let driver = Driver::new(scratch)?;
    let load = Load {
        path: "/predict",
        body: &body,
        content_type: "application/octet-stream",
        connections: CONNECTIONS,
        seconds: SECONDS,
    };
    let mut measured = Resnet { sizes, rounds: Vec::new(), batches: Batches::default() };
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}: ResNet-18, the loop, {CONNECTIONS} connections, the loop");
        let before = loop_cpu()?;
        let (rows, cpu) = (metric::batches(server.address)?, server.cpu()?);
        let sample = driver.drive(&server, &load)?;
        // wrk leaves in the middle of a batch: its rows count as its time does, once it is done.
        let cpu = until_idle(&server)? - cpu;
        let batches = metric::batches(server.address)? - rows;
        let cpu_micros = cpu / batches.rows();
        measured.rounds.push(Round { sample, cpu_micros, loop_cpu_micros: f64::midpoint(before, loop_cpu()?) });
        measured.batches += batches;
    }
    Ok(measured)
}

/// The server's CPU time once it stands still.
fn until_idle(server: &Running) -> Result<f64> {
    let mut before = server.cpu()?;
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = server.cpu()?;
        if now <= before {
            return Ok(now);
        }
        before = now;
    }
}

/// One row of values between -1 and 1.
fn image() -> Vec<u8> {
    let pixels = (0_u16..).map(|pixel| f32::from(pixel % 255) / 127.0 - 1.0).take(ROW.iter().product());
    pixels.flat_map(f32::to_le_bytes).collect()
}

impl Resnet {
    pub(crate) fn failed(&self) -> f64 {
        self.rounds.iter().map(|round| round.sample.failed).sum()
    }

    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new(&["", "rows/s", "CPU a row", "rows/batch", "target", "verdict"]);
        let millis = |micros: f64| format!("{:.2}", micros / 1e3);
        for batch in &self.sizes {
            let rate = format!("{:.1}", batch.rows_per_second);
            let cpu = millis(batch.cpu_micros_per_row);
            table.row(["loop".to_owned(), rate, cpu, batch.rows.to_string(), String::new(), String::new()]);
        }
        let verdict = |met: bool| if met { "pass" } else { "MISS" }.to_owned();
        let over = |field: fn(&Round) -> f64| median(self.rounds.iter().map(field));
        let rows = self.batches.mean_rows();
        table.row([
            "torchpod".to_owned(),
            format!("{:.1}", over(|round| round.sample.requests_per_second)),
            millis(over(|round| round.cpu_micros)),
            format!("{rows:.1}"),
            format!("≥ {MEAN_BATCH_TARGET:.0} rows"),
            verdict(rows >= MEAN_BATCH_TARGET),
        ]);
        let ratio = over(|round| round.cpu_micros / round.loop_cpu_micros);
        table.row([
            "torchpod ÷ best loop".to_owned(),
            String::new(),
            format!("{ratio:.3}"),
            String::new(),
            format!("≤ {CPU_TARGET}"),
            verdict(ratio <= CPU_TARGET),
        ]);
        table
    }
}
