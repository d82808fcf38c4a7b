//! From exec to the first answer, to ready, and from SIGTERM to the end, as a kubelet with little patience sees them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::process::Running;
use crate::request;

pub(crate) const STARTS: usize = 10;
/// Between a probe's answer and the next probe.
const PAUSE: Duration = Duration::from_millis(1);
const PATIENCE: Duration = Duration::from_mins(1);

/// One life of a server, in milliseconds.
pub(crate) struct Life {
    pub(crate) first_answer: f64,
    pub(crate) ready: f64,
    /// The longest that a probe waited for its answer, from the first answer until ready.
    pub(crate) slowest_probe: f64,
    /// From SIGTERM, without a drain delay.
    pub(crate) end: f64,
}

pub(crate) fn measure(scratch: &Path) -> Result<Vec<Life>> {
    (0..STARTS).map(|_| live(scratch)).collect()
}

fn live(scratch: &Path) -> Result<Life> {
    let server = Running::torchpod(Path::new("models"), scratch)?;
    let (mut first_answer, mut slowest_probe) = (None, Duration::ZERO);
    let ready = loop {
        let asked = Instant::now();
        let answer = request::get(server.address, "/ready");
        let now = server.started.elapsed();
        match answer {
            // Until the port is open.
            Err(_) if first_answer.is_none() => {}
            Err(error) => return Err(error).context("a probe was not answered although the port had been open"),
            Ok(answer) => {
                first_answer.get_or_insert(now);
                slowest_probe = slowest_probe.max(asked.elapsed());
                if answer.status == 200 {
                    break now;
                }
            }
        }
        ensure!(now < PATIENCE, "torchpod was not ready within {PATIENCE:?}");
        std::thread::sleep(PAUSE);
    };
    let end = server.terminate()?;
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    Ok(Life {
        first_answer: millis(first_answer.unwrap_or(ready)),
        ready: millis(ready),
        slowest_probe: millis(slowest_probe),
        end: millis(end),
    })
}
