//! What one run measures, in which order, and where its figures are kept.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::compute::{self, Loop, Subject};
use crate::load::{Driver, Load, Sample};
use crate::metric::{self, Batches};
use crate::probes::{self, Answers};
use crate::process::{Memory, Running};
use crate::{HERE, bare, request};

/// Every figure is the median over this many rounds; what is compared is measured in the same round.
pub(crate) const ROUNDS: usize = 3;

/// One kind of load.
#[derive(Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) rows: usize,
    pub(crate) connections: u32,
}

/// How long a server is under one load in a round.
pub(crate) const SECONDS: u32 = 4;

const CELLS: [Cell; 4] = [
    Cell { rows: 1, connections: 1 },
    Cell { rows: 1, connections: 8 },
    Cell { rows: 1, connections: 32 },
    Cell { rows: 32, connections: 8 },
];

/// A cell's samples, one a round.
pub(crate) struct Pair {
    pub(crate) cell: Cell,
    pub(crate) bare: Vec<Sample>,
    pub(crate) torchpod: Vec<Sample>,
    pub(crate) batches: Batches,
}

/// What stood in memory, whose and when.
pub(crate) struct Resident {
    pub(crate) whose: &'static str,
    pub(crate) when: &'static str,
    pub(crate) memory: Memory,
}

pub(crate) struct Measured {
    pub(crate) pairs: Vec<Pair>,
    pub(crate) loops: Vec<Loop>,
    pub(crate) residents: Vec<Resident>,
    pub(crate) probes: Vec<Answers>,
}

impl Measured {
    /// Requests of either server that were not answered with 2xx, and broken connections.
    pub(crate) fn failed(&self) -> f64 {
        self.pairs.iter().flat_map(|pair| pair.bare.iter().chain(&pair.torchpod)).map(|sample| sample.failed).sum()
    }
}

/// Both servers, and the bodies that they are sent.
pub(crate) struct Stage {
    bare: Running,
    pub(crate) torchpod: Running,
    bodies: PathBuf,
    driver: Driver,
}

pub(crate) fn run(scratch: &Path) -> Result<Measured> {
    let stage = Stage::set(scratch)?;
    let ready = [("bare", "ready", stage.bare.memory()?), ("torchpod", "ready", stage.torchpod.memory()?)];
    let mut pairs: Vec<Pair> = CELLS
        .iter()
        .map(|cell| Pair { cell: *cell, bare: Vec::new(), torchpod: Vec::new(), batches: Batches::default() })
        .collect();
    let mut loops = Vec::new();
    stage.warm_up()?;
    let digits = digits(scratch)?;
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}: the libtorch loop");
        loops.push(compute::run(&digits)?);
        for pair in &mut pairs {
            let Cell { rows, connections } = pair.cell;
            eprintln!("round {round} of {ROUNDS}: {rows} row(s) a request on {connections} connection(s)");
            stage.measure(pair)?;
        }
    }
    let probes = probes::measure(&stage)?;
    let after = [("bare", "after load", stage.bare.memory()?), ("torchpod", "after load", stage.torchpod.memory()?)];
    let libtorch = loops.iter().map(|done| ("libtorch loop", "after its loop", done.memory));
    let residents = ready.into_iter().chain(after).chain(libtorch.take(1));
    let residents = residents.map(|(whose, when, memory)| Resident { whose, when, memory }).collect();
    Ok(Measured { pairs, loops, residents, probes })
}

impl Stage {
    /// Starts both servers; the bare one gives torchpod's own answers, byte for byte.
    fn set(scratch: &Path) -> Result<Self> {
        let torchpod = Running::torchpod(Path::new("models"), scratch)?;
        torchpod.wait_until_ready()?;
        for cell in CELLS {
            let body = body(cell.rows)?;
            let answer = request::post(torchpod.address, "/predict", &body)?;
            ensure!(answer.status == 200, "torchpod answers {} to {} row(s)", answer.status, cell.rows);
            std::fs::write(scratch.join(format!("request-{}", cell.rows)), body)?;
            std::fs::write(scratch.join(bare::answer_file(cell.rows)), answer.body)?;
        }
        let bare = bare::start(scratch)?;
        Ok(Self { bare, torchpod, bodies: scratch.to_owned(), driver: Driver::new(scratch)? })
    }

    fn warm_up(&self) -> Result<()> {
        for cell in CELLS {
            self.drive(&self.bare, &bare::path(cell.rows), cell, 1)?;
            self.drive(&self.torchpod, "/predict", cell, 1)?;
        }
        Ok(())
    }

    fn measure(&self, pair: &mut Pair) -> Result<()> {
        pair.bare.push(self.drive(&self.bare, &bare::path(pair.cell.rows), pair.cell, SECONDS)?);
        let before = metric::batches(self.torchpod.address)?;
        pair.torchpod.push(self.drive(&self.torchpod, "/predict", pair.cell, SECONDS)?);
        pair.batches += metric::batches(self.torchpod.address)? - before;
        Ok(())
    }

    /// As much of torchpod as `connections` clients can want.
    pub(crate) fn saturate(&self, rows: usize, connections: u32, seconds: u32) -> Result<Sample> {
        self.drive(&self.torchpod, "/predict", Cell { rows, connections }, seconds)
    }

    fn drive(&self, server: &Running, path: &str, cell: Cell, seconds: u32) -> Result<Sample> {
        let body = self.bodies.join(format!("request-{}", cell.rows));
        let load = Load { path, body: &body, content_type: "application/json", connections: cell.connections, seconds };
        self.driver.drive(server, &load)
    }
}

fn digits(scratch: &Path) -> Result<Subject> {
    let image: Vec<[f32; 8]> = serde_json::from_value(images(1)?.remove(0))?;
    let values = scratch.join("digit");
    std::fs::write(&values, image.into_iter().flatten().flat_map(f32::to_le_bytes).collect::<Vec<u8>>())?;
    Ok(Subject {
        file: Path::new(HERE).join("models/digits/1/model.pt"),
        row: vec![8, 8],
        values,
        batches: vec![1, 8, 32],
        threads: 1,
        seconds: 0.7,
        rested: true,
        warm_up: 50,
    })
}

/// A JSON request of the golden file's first rows.
fn body(rows: usize) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(&json!({ "inputs": images(rows)? }))?)
}

fn images(rows: usize) -> Result<Vec<Value>> {
    let file = Path::new(HERE).join("models/digits/golden.json");
    let golden: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let images = golden["inputs"]["image"].as_array().context("golden.json has no images")?;
    Ok(images.get(..rows).context("golden.json has too few images")?.to_vec())
}
