//! What a run measures, in which order, and where its figures are kept.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::cell::{Cell, Measured};
use crate::compute::{self, Loop, Subject};
use crate::model::{Body, MODELS, Model};
use crate::probes::{self, Answers};
use crate::process::Memory;
use crate::stage::Stage;

/// Every figure is the median over this many rounds; what is compared is measured in the same round.
pub(crate) const ROUNDS: usize = 3;

/// What `make bench` measures: MODEL ROWS BODY CONNECTIONS.
const SHORT: [(&str, usize, Body, u32); 12] = [
    ("mlp", 1, Body::Json, 1),
    ("mlp", 1, Body::Binary, 1),
    ("mlp", 1, Body::Json, 32),
    ("mlp", 1, Body::Binary, 32),
    ("mlp", 32, Body::Binary, 8),
    ("digits", 1, Body::Json, 1),
    ("digits", 1, Body::Json, 8),
    ("digits", 1, Body::Json, 32),
    ("digits", 32, Body::Json, 8),
    ("digits", 32, Body::Binary, 8),
    ("resnet18", 1, Body::Binary, 64),
    ("bert", 1, Body::Binary, 8),
];

pub(crate) fn short() -> Result<Vec<Cell>> {
    SHORT.into_iter().map(|(model, rows, body, connections)| Cell::new(model, rows, body, connections)).collect()
}

/// Where it is measured what sight costs: there is nothing that it costs more beside.
pub(crate) fn seen() -> Result<Vec<Cell>> {
    [Body::Json, Body::Binary].into_iter().map(|body| Cell::new("mlp", 1, body, 32)).collect()
}

/// Every cell, and those of them that are left out.
pub(crate) fn full() -> (Vec<Cell>, Vec<Cell>) {
    let mut cells = Vec::new();
    for model in &MODELS {
        for rows in [1, 32] {
            for body in Body::ALL {
                cells.extend([1, 8, 32, 128].map(|connections| Cell { model, rows, body, connections }));
            }
        }
    }
    cells.into_iter().partition(Cell::is_sensible)
}

/// What stood in memory, whose and when.
pub(crate) struct Resident {
    pub(crate) whose: &'static str,
    pub(crate) when: &'static str,
    pub(crate) memory: Memory,
}

/// What came of a run. Compute, memory and probes are those of the digits.
#[derive(Default)]
pub(crate) struct Run {
    pub(crate) cells: Vec<Measured>,
    pub(crate) loops: Vec<Loop>,
    pub(crate) residents: Vec<Resident>,
    pub(crate) probes: Vec<Answers>,
}

impl Run {
    pub(crate) fn failed(&self) -> f64 {
        self.cells.iter().map(Measured::failed).sum()
    }
}

/// One model after the other, each with its cells in every round.
pub(crate) fn run(cells: &[Cell], scratch: &Path) -> Result<Run> {
    let mut run = Run::default();
    for model in &MODELS {
        let cells: Vec<Cell> = cells.iter().filter(|cell| cell.model.name == model.name).copied().collect();
        if !cells.is_empty() {
            one(model, &cells, scratch, &mut run).with_context(|| format!("measuring {}", model.name))?;
        }
    }
    Ok(run)
}

fn one(model: &'static Model, cells: &[Cell], scratch: &Path, run: &mut Run) -> Result<()> {
    let in_detail = model.name == "digits";
    eprintln!("{}: starting", model.name);
    let mut stage = Stage::set(model, cells, scratch)?;
    let mut memory = |stage: &Stage, when| -> Result<()> {
        for (whose, server) in [("bare", &stage.bare), ("torchpod", &stage.torchpod)] {
            run.residents.push(Resident { whose, when, memory: server.memory()? });
        }
        Ok(())
    };
    if in_detail {
        memory(&stage, "ready")?;
    }
    stage.warm_up()?;
    for round in 1..=ROUNDS {
        eprintln!("{}: round {round} of {ROUNDS}", model.name);
        if in_detail {
            run.loops.push(compute::run(&in_full(model, scratch)?)?);
        }
        stage.round()?;
    }
    if in_detail {
        memory(&stage, "after load")?;
        run.probes = probes::measure(&stage)?;
        let memory = run.loops[0].memory;
        run.residents.push(Resident { whose: "libtorch loop", when: "after its loop", memory });
    }
    run.cells.extend(stage.end());
    Ok(())
}

/// The loop at several batch sizes, in a row and after a rest.
fn in_full(model: &Model, scratch: &Path) -> Result<Subject> {
    let values = scratch.join("rows");
    std::fs::write(&values, model.request(1, Body::Binary)?)?;
    let model = model.name.to_owned();
    Ok(Subject {
        model,
        values,
        batches: vec![1, 8, 32],
        on_gpu: None,
        threads: 1,
        seconds: 0.7,
        rested: true,
        warm_up: 50,
    })
}
