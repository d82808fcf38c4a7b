//! torchpod with one model, the bare server that has its answers, and the loads that both are put under in turn.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::cell::{Cell, Measured, Round};
use crate::compute::{self, Subject};
use crate::load::{Clients, Driver, Load, Sample};
use crate::metric::{self, Batches};
use crate::model::{Body, Model};
use crate::process::Running;
use crate::{bare, request};

/// How long everything is measured in one round, in seconds.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) bare: u32,
    pub(crate) torchpod: u32,
    pub(crate) forward: f64,
}

impl Pace {
    /// A heavy model takes a second for a batch, and what surrounds it costs nothing beside.
    pub(crate) fn of(cell: &Cell) -> Self {
        if cell.model.heavy {
            let is_long = cell.rows_at_once() >= cell.model.most_rows;
            Self { bare: 1, torchpod: if is_long { 25 } else { 10 }, forward: 4.0 }
        } else {
            Self { bare: 3, torchpod: 3, forward: 1.0 }
        }
    }
}

pub(crate) struct Stage {
    pub(crate) model: &'static Model,
    pub(crate) bare: Running,
    pub(crate) torchpod: Running,
    beside: Option<Running>,
    scratch: PathBuf,
    driver: Driver,
    cells: Vec<Measured>,
    /// The batch size that each cell came to when it was last under load.
    batches: Vec<usize>,
}

impl Stage {
    /// Starts both servers; the bare one gives torchpod's own answers, byte for byte.
    pub(crate) fn set(model: &'static Model, cells: &[Cell], scratch: &Path) -> Result<Self> {
        let scratch = scratch.join(model.name);
        std::fs::create_dir_all(&scratch)?;
        let torchpod = Running::torchpod(&model.folder()?, &scratch)?;
        torchpod.wait_until_ready()?;
        for cell in cells {
            let body = model.request(cell.rows, cell.body)?;
            let answer = request::post(torchpod.address, "/predict", cell.body.content_type(), &body)?;
            ensure!(answer.status == 200, "torchpod answers {} to {cell}", answer.status);
            std::fs::write(body_file(&scratch, cell), body)?;
            std::fs::write(scratch.join(bare::answer_file(cell.rows)), answer.body)?;
        }
        let bare = bare::start(&scratch)?;
        let driver = Driver::new(&scratch)?;
        let batches = vec![1; cells.len()];
        let cells = cells.iter().map(|cell| Measured { cell: *cell, rounds: Vec::new() }).collect();
        Ok(Self { model, bare, torchpod, beside: None, scratch, driver, cells, batches })
    }

    /// Another binary of torchpod, which takes its turn in every round.
    pub(crate) fn put_beside(&mut self, file: &Path) -> Result<()> {
        let server = Running::binary(file, &self.model.folder()?, &self.scratch)?;
        server.wait_until_ready()?;
        self.beside = Some(server);
        Ok(())
    }

    /// Every cell for a moment: connections, batch sizes and allocators are then as they stay.
    pub(crate) fn warm_up(&mut self) -> Result<()> {
        let seconds = if self.model.heavy { 4 } else { 1 };
        for index in 0..self.cells.len() {
            let cell = self.cells[index].cell;
            self.drive(&self.bare, &bare::path(cell.rows), &cell, 1)?;
            let rows = metric::batches(self.torchpod.address)?;
            self.drive(&self.torchpod, "/predict", &cell, seconds)?;
            until_idle(&self.torchpod)?;
            if let Some(beside) = &self.beside {
                self.drive(beside, "/predict", &cell, seconds)?;
                until_idle(beside)?;
            }
            self.batches[index] = whole(metric::batches(self.torchpod.address)? - rows);
        }
        Ok(())
    }

    /// Every cell once more.
    pub(crate) fn round(&mut self) -> Result<()> {
        for index in 0..self.cells.len() {
            let cell = self.cells[index].cell;
            eprintln!("  {cell}");
            let (round, batch) = self.measure(&cell, self.batches[index])?;
            self.cells[index].rounds.push(round);
            self.batches[index] = batch;
        }
        Ok(())
    }

    /// `expected` is the batch size that the cell will most likely come to; it is returned as it was.
    fn measure(&self, cell: &Cell, expected: usize) -> Result<(Round, usize)> {
        let pace = Pace::of(cell);
        // Where 3 % are looked for, the loop has to stand on both sides: the machine drifts by as much in a minute.
        let before = self.model.heavy.then(|| self.forward(cell, expected, pace.forward)).transpose()?;
        let bare = self.drive(&self.bare, &bare::path(cell.rows), cell, pace.bare)?;
        let (rows, cpu) = (metric::batches(self.torchpod.address)?, self.torchpod.cpu()?);
        let torchpod = self.drive(&self.torchpod, "/predict", cell, pace.torchpod)?;
        // wrk leaves in the middle of a batch: its rows count as its time does, once it is done.
        let cpu = if self.model.heavy { until_idle(&self.torchpod)? } else { self.torchpod.cpu()? } - cpu;
        let batches = metric::batches(self.torchpod.address)? - rows;
        let beside = self.beside.as_ref();
        let beside = beside.map(|server| self.drive(server, "/predict", cell, pace.torchpod)).transpose()?;
        let batch = whole(batches);
        let after = self.forward(cell, batch, pace.forward)?;
        let forward = before.map_or(after, |before| before.and(after));
        let rows_per_batch = batches.mean_rows();
        Ok((Round { bare, torchpod, beside, cpu_micros_per_row: cpu / batches.rows(), rows_per_batch, forward }, batch))
    }

    /// The loop over batches of `rows` of the cell's own rows.
    fn forward(&self, cell: &Cell, rows: usize, seconds: f64) -> Result<compute::Batch> {
        let values = self.scratch.join("values");
        std::fs::write(&values, self.model.request(cell.rows, Body::Binary)?)?;
        let subject = Subject {
            model: self.model.name.to_owned(),
            values,
            batches: vec![rows],
            on_gpu: None,
            threads: 1,
            seconds,
            rested: false,
            warm_up: if self.model.heavy { 3 } else { 50 },
        };
        Ok(compute::run(&subject)?.batches.remove(0))
    }

    /// As much of torchpod as the cell's clients can want.
    pub(crate) fn saturate(&self, cell: &Cell, seconds: u32) -> Result<Sample> {
        self.drive(&self.torchpod, "/predict", cell, seconds)
    }

    fn drive(&self, server: &Running, path: &str, cell: &Cell, seconds: u32) -> Result<Sample> {
        let body = body_file(&self.scratch, cell);
        let content_type = cell.body.content_type();
        let load =
            Load { path, body: &body, content_type, header: None, clients: Clients::busy(cell.connections), seconds };
        self.driver.drive(server, &load)
    }

    pub(crate) fn end(self) -> Vec<Measured> {
        self.cells
    }
}

fn body_file(scratch: &Path, cell: &Cell) -> PathBuf {
    scratch.join(format!("request-{}-{}", cell.rows, cell.body.name()))
}

/// The mean batch, in whole rows.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at least one, at most max_size
fn whole(batches: Batches) -> usize {
    batches.mean_rows().round().max(1.0) as usize
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
