//! Whether a request costs the same whatever else the server holds, and whatever it has done before.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use crate::cell::Figure;
use crate::load::{Clients, Driver, Load, Sample};
use crate::model::{self, Body, Model};
use crate::process::Running;
use crate::target::{Bound, Verdict};
use crate::{bare, request};

const MODELS: usize = 64;
const IDLE: usize = 1000;
const REQUESTS: f64 = 1e6;
const ROUNDS: usize = 5;
const SECONDS: u32 = 4;
const CONNECTIONS: u32 = 32;
/// The share by which a cost may grow.
const FLAT: f64 = 1.05;
/// What is asked: the first of the models, which stands for whichever.
const PATH: &str = "/predict/m00";

struct Ground {
    driver: Driver,
    body: PathBuf,
}

pub(crate) fn measure(scratch: &Path) -> Result<Vec<Verdict>> {
    let mlp = model::named("mlp")?;
    let ground = Ground { driver: Driver::new(scratch)?, body: scratch.join("row") };
    std::fs::write(&ground.body, mlp.request(1, Body::Json)?)?;
    let few = start(mlp, 1, scratch)?;
    let many = start(mlp, MODELS, scratch)?;
    eprintln!("growth: {MODELS} models, {IDLE} idle connections, {REQUESTS} requests");
    let mut verdicts = vec![ground.models(&few, &many)?];
    drop(many);
    verdicts.push(ground.idle(&few)?);
    verdicts.extend(ground.requests(&few, scratch)?);
    Ok(verdicts)
}

/// A server of so many copies of `model`.
fn start(model: &Model, copies: usize, scratch: &Path) -> Result<Running> {
    let (from, to) = (model.folder()?, scratch.join(format!("copies-{copies}")));
    for copy in 0..copies {
        let folder = to.join(format!("m{copy:02}"));
        std::fs::create_dir_all(folder.join("1"))?;
        for file in ["model.toml", "1/model.pt"] {
            std::fs::copy(from.join(file), folder.join(file))?;
        }
    }
    let server = Running::torchpod(&to, scratch)?;
    server.wait_until_ready()?;
    Ok(server)
}

impl Ground {
    fn drive(&self, server: &Running, path: &str, seconds: u32) -> Result<Sample> {
        let content_type = Body::Json.content_type();
        let load =
            Load { path, body: &self.body, content_type, header: None, clients: Clients::busy(CONNECTIONS), seconds };
        self.driver.drive_whole(server, &load)
    }

    fn models(&self, few: &Running, many: &Running) -> Result<Verdict> {
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let one = self.drive(few, PATH, SECONDS)?.cpu_micros;
            ratios.push(self.drive(many, PATH, SECONDS)?.cpu_micros / one);
        }
        Ok(flat("CPU/request with 64 models ÷ with 1", &ratios))
    }

    fn idle(&self, server: &Running) -> Result<Verdict> {
        let mut ratios = Vec::new();
        for _ in 0..ROUNDS {
            let alone = self.drive(server, PATH, SECONDS)?.cpu_micros;
            let others: Vec<TcpStream> = (0..IDLE).map(|_| visit(server)).collect::<Result<_>>()?;
            ratios.push(self.drive(server, PATH, SECONDS)?.cpu_micros / alone);
            drop(others);
        }
        Ok(flat("CPU/request with 1000 idle connections ÷ with none", &ratios))
    }

    /// The bare server, in turns, takes the machine's own drift out.
    fn requests(&self, server: &Running, scratch: &Path) -> Result<Vec<Verdict>> {
        let answer = request::post(server.address, PATH, Body::Json.content_type(), &std::fs::read(&self.body)?)?;
        let answers = scratch.join("answers");
        std::fs::create_dir_all(&answers)?;
        std::fs::write(answers.join(bare::answer_file(1)), answer.body)?;
        let bare = bare::start(&answers)?;
        let (mut costs, mut resident, mut requests) = (Vec::new(), Vec::new(), 0.0);
        while requests < REQUESTS {
            let least = self.drive(&bare, &bare::path(1), 1)?.cpu_micros;
            let sample = self.drive(server, PATH, SECONDS)?;
            requests += sample.requests_per_second * f64::from(SECONDS);
            costs.push(sample.cpu_micros / least);
            resident.push(f64::from(server.memory()?.resident));
        }
        let fifth = (costs.len() / 5).max(1);
        let first = mean(&costs[..fifth]);
        let last: Vec<f64> = costs[costs.len() - fifth..].iter().map(|cost| cost / first).collect();
        let grown = resident.last().context("no round")? / resident[0];
        Ok(vec![
            flat("CPU/request ÷ bare, last fifth of 10⁶ requests ÷ first", &last),
            flat("resident memory after 10⁶ requests ÷ after the first seconds", &[grown]),
        ])
    }
}

/// A connection that has asked once and stays.
fn visit(server: &Running) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(server.address)?;
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: bench\r\n\r\n")?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    ensure!(start.ends_with(b"200"), "an idle connection was answered {:?}", String::from_utf8_lossy(&start));
    Ok(stream)
}

#[allow(clippy::cast_precision_loss)] // a few
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn flat(what: &'static str, ratios: &[f64]) -> Verdict {
    Verdict { what, figure: Figure::of(ratios.iter().copied()), bound: Bound::Most(FLAT) }
}
