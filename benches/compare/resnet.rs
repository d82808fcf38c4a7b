//! Batching where it pays: a model that keeps the cores busy, many clients with one row each, and the loop beside it that
//! has its batches for free.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::HERE;
use crate::compute::{self, Loop, Subject};
use crate::load::{Driver, Load, Sample};
use crate::metric::{self, Batches};
use crate::process::Running;
use crate::table::{Table, median};

pub(crate) const ROUNDS: usize = 3;
pub(crate) const CONNECTIONS: u32 = 64;
/// Long enough for dozens of batches.
pub(crate) const SECONDS: u32 = 10;

const ROW: [usize; 3] = [3, 224, 224];
const BATCHES: [usize; 5] = [1, 8, 16, 20, 32];
const MEAN_BATCH_TARGET: f64 = 16.0;
/// Of the server's CPU time a row to the loop's, at the loop's best batch size.
const CPU_TARGET: f64 = 1.03;

const MODEL_TOML: &str = r#"
[[inputs]]
name = "image"
dtype = "FP32"
shape = [-1, 3, 224, 224]
[batching]
max_size = 20
[instances]
threads = 1
[warm_up]
sizes = [1, 20]
"#;

pub(crate) struct Resnet {
    loops: Vec<Loop>,
    served: Vec<Sample>,
    /// A row, in all batches of a round.
    cpu_micros: Vec<f64>,
    batches: Batches,
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
    let subject = Subject { file, row: ROW.to_vec(), batches: BATCHES.to_vec(), threads: 1, seconds: 3.0, warm_up: 3 };
    let mut measured =
        Resnet { loops: Vec::new(), served: Vec::new(), cpu_micros: Vec::new(), batches: Batches::default() };
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}: ResNet-18, the libtorch loop, then {CONNECTIONS} connections");
        measured.loops.push(compute::run(&subject)?);
        let (rows, cpu) = (metric::batches(server.address)?, server.cpu()?);
        measured.served.push(driver.drive(&server, &load)?);
        // wrk leaves in the middle of a batch: its rows count as its time does, once it is done.
        let cpu = until_idle(&server)? - cpu;
        let batches = metric::batches(server.address)? - rows;
        measured.cpu_micros.push(cpu / batches.rows());
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
        self.served.iter().map(|sample| sample.failed).sum()
    }

    pub(crate) fn table(&self) -> Table {
        let mut table = Table::new(&["", "rows/s", "CPU a row", "rows/batch", "target", "verdict"]);
        let millis = |micros: f64| format!("{:.2}", micros / 1e3);
        let mut best = f64::INFINITY;
        for (index, rows) in BATCHES.iter().enumerate() {
            let batch =
                |field: fn(&compute::Batch) -> f64| median(self.loops.iter().map(|done| field(&done.batches[index])));
            let cpu = batch(|batch| batch.cpu_micros_per_row);
            best = best.min(cpu);
            let rate = format!("{:.1}", batch(|batch| batch.rows_per_second));
            table.row(["loop".to_owned(), rate, millis(cpu), rows.to_string(), String::new(), String::new()]);
        }
        let verdict = |met: bool| if met { "pass" } else { "MISS" }.to_owned();
        let cpu = median(self.cpu_micros.iter().copied());
        let rows = self.batches.mean_rows();
        table.row([
            "torchpod".to_owned(),
            format!("{:.1}", median(self.served.iter().map(|sample| sample.requests_per_second))),
            millis(cpu),
            format!("{rows:.1}"),
            format!("≥ {MEAN_BATCH_TARGET:.0} rows"),
            verdict(rows >= MEAN_BATCH_TARGET),
        ]);
        table.row([
            "torchpod ÷ best loop".to_owned(),
            String::new(),
            format!("{:.3}", cpu / best),
            String::new(),
            format!("≤ {CPU_TARGET}"),
            verdict(cpu / best <= CPU_TARGET),
        ]);
        table
    }
}
