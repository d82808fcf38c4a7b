//! `make bench-peers`: torchpod beside other servers of the same model file, each set up as its own manual advises.
//!
//! One peer runs at a time, and takes turns with torchpod: what is compared was measured within seconds.

mod peer;
mod report;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use peer::{PEERS, Peer};
use serde_json::Value;

use crate::HERE;
use crate::cell::Cell;
use crate::load::{Clients, Driver, Load, Sample};
use crate::model::{self, Body, Model};
use crate::process::Running;

const ROUNDS: usize = 2;
const MINUTES: u64 = 15;
/// How far a peer's answers may be from torchpod's.
const TOLERANCE: f64 = 1e-4;
/// Right answers in a row, from workers that start one after the other.
const SURE: usize = 30;
/// Importing torch takes each process some seconds of CPU time, and others may want the cores, too.
const PATIENCE: Duration = Duration::from_mins(5);

const CELLS: [(&str, usize, Body, u32); 12] = [
    ("mlp", 1, Body::Json, 1),
    ("mlp", 1, Body::Json, 8),
    ("mlp", 1, Body::Json, 32),
    ("mlp", 1, Body::Json, 128),
    ("mlp", 32, Body::Json, 8),
    ("digits", 1, Body::Json, 1),
    ("digits", 1, Body::Json, 8),
    ("digits", 1, Body::Json, 32),
    ("digits", 1, Body::Json, 128),
    ("digits", 32, Body::Json, 8),
    ("resnet18", 1, Body::Binary, 8),
    ("resnet18", 1, Body::Binary, 32),
];

/// One peer in one cell, round by round beside torchpod.
struct Duel {
    cell: Cell,
    peer: &'static Peer,
    rounds: Vec<Turn>,
}

struct Turn {
    torchpod: Sample,
    peer: Sample,
}

#[derive(Default)]
struct Outcome {
    duels: Vec<Duel>,
    /// Whom it was not possible to measure, and why.
    absent: Vec<String>,
}

/// Measures for so many minutes at most; whoever's turn has not come by then is named.
pub(crate) fn run(minutes: Option<String>) -> Result<()> {
    let minutes = minutes.map_or(Ok(MINUTES), |minutes| minutes.parse().context("expected minutes"))?;
    let end = Instant::now() + Duration::from_mins(minutes);
    let scratch = tempfile::tempdir()?;
    let mut outcome = Outcome::default();
    for name in ["mlp", "digits", "resnet18"] {
        let model = model::named(name)?;
        let stage = Stage::set(model, scratch.path())?;
        for peer in &PEERS {
            if Instant::now() > end {
                outcome.absent.push(format!("{} with {name}: {minutes} minutes were over", peer.name));
                continue;
            }
            eprintln!("{name}: {}", peer.name);
            match stage.meet(peer, &mut outcome.duels) {
                Ok(()) => {}
                Err(error) => outcome.absent.push(format!("{} with {name}: {error:#}", peer.name)),
            }
        }
    }
    ensure!(!outcome.duels.is_empty(), "nobody was measured: {}", outcome.absent.join("; "));
    let report = report::text(&outcome)?;
    println!("{report}");
    let benches = Path::new(HERE).join("benches");
    report::picture(&outcome, &benches.join("peers.svg"))?;
    std::fs::write(benches.join("PEERS.md"), report).context("benches/PEERS.md cannot be written")
}

/// torchpod with one model, and what is asked of it and of the peers.
struct Stage {
    model: &'static Model,
    torchpod: Running,
    driver: Driver,
    scratch: PathBuf,
    cells: Vec<Cell>,
}

impl Stage {
    fn set(model: &'static Model, scratch: &Path) -> Result<Self> {
        let scratch = scratch.join(model.name);
        std::fs::create_dir_all(&scratch)?;
        let cells = CELLS.iter().filter(|(name, ..)| *name == model.name);
        let cells = cells.map(|(name, rows, body, connections)| Cell::new(name, *rows, *body, *connections));
        let torchpod = Running::torchpod(&folder(model, &scratch)?, &scratch)?;
        torchpod.wait_until_ready()?;
        let driver = Driver::new(&scratch)?;
        Ok(Self { model, torchpod, driver, cells: cells.collect::<Result<_>>()?, scratch })
    }

    fn meet(&self, peer: &'static Peer, duels: &mut Vec<Duel>) -> Result<()> {
        let mut server = peer.start(self.model, &self.scratch)?;
        self.compare_answers(peer, &mut server)?;
        let mut met: Vec<Duel> = self.cells.iter().map(|cell| Duel { cell: *cell, peer, rounds: Vec::new() }).collect();
        // Long enough for an answer of a heavy model, at least.
        let (moment, seconds) = if self.model.heavy { (4, 6) } else { (1, 2) };
        for duel in &met {
            self.drive(&server, Some(peer), &duel.cell, moment)?;
            self.drive(&self.torchpod, None, &duel.cell, moment)?;
        }
        for _ in 0..ROUNDS {
            for duel in &mut met {
                let torchpod = self.drive(&self.torchpod, None, &duel.cell, seconds)?;
                let peer = self.drive(&server, Some(peer), &duel.cell, seconds)?;
                duel.rounds.push(Turn { torchpod, peer });
            }
        }
        duels.append(&mut met);
        Ok(())
    }

    /// Waits until the peer answers, and refuses it where it says something else than torchpod.
    fn compare_answers(&self, peer: &Peer, server: &mut Running) -> Result<()> {
        let mut asked: Vec<(usize, Body)> = self.cells.iter().map(|cell| (cell.rows, cell.body)).collect();
        asked.dedup();
        for (rows, body) in asked {
            let asked = peer::plain(self.model, rows, body)?;
            let wanted = numbers(&asked.post(self.torchpod.address)?.body)?;
            let asked = peer.request(self.model, rows, body)?;
            let mut right = 0;
            while right < SURE {
                match asked.post(server.address) {
                    Ok(answer) if answer.status == 200 => {
                        let given = numbers(&answer.body)?;
                        let same =
                            given.iter().zip(&wanted).all(|(a, b)| (a - b).abs() <= TOLERANCE * b.abs().max(1.0));
                        ensure!(given.len() == wanted.len() && same, "its answers are not torchpod's");
                        right += 1;
                    }
                    _ => {
                        right = 0;
                        ensure!(!server.has_ended()?, "it ended: {}", peer.last_word(&self.scratch));
                        ensure!(server.started.elapsed() < PATIENCE, "it did not answer within {PATIENCE:?}");
                        std::thread::sleep(Duration::from_millis(300));
                    }
                }
            }
        }
        Ok(())
    }

    fn drive(&self, server: &Running, peer: Option<&Peer>, cell: &Cell, seconds: u32) -> Result<Sample> {
        let asked = match peer {
            Some(peer) => peer.request(self.model, cell.rows, cell.body)?,
            None => peer::plain(self.model, cell.rows, cell.body)?,
        };
        let body = self.scratch.join("body");
        std::fs::write(&body, &asked.body)?;
        let load = Load {
            path: &asked.path,
            body: &body,
            content_type: asked.content_type,
            header: asked.header,
            clients: Clients::busy(cell.connections),
            seconds,
        };
        self.driver.drive(server, &load)
    }
}

/// The model as torchpod serves it: a heavy one on as many threads as every peer has.
fn folder(model: &Model, scratch: &Path) -> Result<PathBuf> {
    if !model.heavy {
        return model.folder();
    }
    let instances = format!("[instances]\ncount = {}", peer::WORKERS);
    model.changed(&scratch.join("served"), &[("[instances]", instances)])
}

/// The numbers of the only output, whatever surrounds them: `outputs` by name, in a list, or as Triton says them.
fn numbers(answer: &[u8]) -> Result<Vec<f64>> {
    fn collect(value: &Value, into: &mut Vec<f64>) {
        match value {
            Value::Number(number) => into.extend(number.as_f64()),
            Value::Array(values) => values.iter().for_each(|value| collect(value, into)),
            Value::Object(fields) => {
                if let Some(value) = fields.get("data").or_else(|| fields.values().next()) {
                    collect(value, into);
                }
            }
            _ => {}
        }
    }
    let mut values = serde_json::Deserializer::from_slice(answer).into_iter::<Value>();
    let value = values.next().context("an answer is empty")??;
    // Triton answers bytes with bytes, behind the JSON that describes them: the only output, all of it FP32. Behind others'
    // JSON is a line's end at most.
    let (bytes, _) = answer[values.byte_offset()..].as_chunks();
    let mut numbers: Vec<f64> = bytes.iter().map(|number| f64::from(f32::from_le_bytes(*number))).collect();
    if numbers.is_empty() {
        collect(&value["outputs"], &mut numbers);
    }
    if numbers.is_empty() {
        bail!("an answer has no outputs");
    }
    Ok(numbers)
}
