//! Probes while inference has both cores and 64 clients want more: each on a new connection, as a kubelet asks.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::cell::Cell;
use crate::model::Body;
use crate::request;
use crate::stage::Stage;

pub(crate) const PROBES: usize = 1000;
pub(crate) const CONNECTIONS: u32 = 64;
pub(crate) const ROWS: usize = 32;
/// Longer than the probes take: a pause of 5 ms each, and what they wait.
const SECONDS: u32 = 12;
const PAUSE: Duration = Duration::from_millis(5);
/// wrk has started, and every worker is busy.
const UNTIL_BUSY: Duration = Duration::from_secs(1);

/// What the probes of one listener waited, in milliseconds from connect to last byte.
pub(crate) struct Answers {
    pub(crate) listener: &'static str,
    pub(crate) load: &'static str,
    pub(crate) millis: Vec<f64>,
    /// Answers other than 200, and connections that broke.
    pub(crate) failed: usize,
}

impl Answers {
    /// The smallest wait that `share` of the probes did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // up to PROBES
        let index = (self.millis.len() as f64 * share) as usize;
        self.millis.get(index.min(self.millis.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

pub(crate) fn measure(stage: &Stage) -> Result<Vec<Answers>> {
    let cell = Cell { model: stage.model, rows: ROWS, body: Body::Json, connections: CONNECTIONS };
    let listeners = [("--listen", stage.torchpod.address), ("--probe-listen", stage.torchpod.probe)];
    let mut answers = vec![ask("--listen", "none", listeners[0].1)];
    for (listener, address) in listeners {
        eprintln!("{PROBES} probes on {listener} under {CONNECTIONS} connections of {ROWS} rows");
        answers.push(thread::scope(|scope| {
            let load = scope.spawn(|| stage.saturate(&cell, SECONDS));
            thread::sleep(UNTIL_BUSY);
            let answers = ask(listener, "saturated", address);
            load.join().ok().context("the load broke")??;
            Ok::<_, anyhow::Error>(answers)
        })?);
    }
    Ok(answers)
}

fn ask(listener: &'static str, load: &'static str, address: SocketAddr) -> Answers {
    let mut answers = Answers { listener, load, millis: Vec::new(), failed: 0 };
    for path in ["/health", "/ready", "/startup"].into_iter().cycle().take(PROBES) {
        let asked = Instant::now();
        let answer = request::get(address, path);
        answers.millis.push(asked.elapsed().as_secs_f64() * 1e3);
        if !answer.is_ok_and(|answer| answer.status == 200) {
            answers.failed += 1;
        }
        thread::sleep(PAUSE);
    }
    answers.millis.sort_by(f64::total_cmp);
    answers
}
