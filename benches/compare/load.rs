//! wrk against one server, and what the server spent on it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::process::Running;

/// Posts the file that its first argument names, of the type that is its second, with one more header if the third and
/// fourth are one, and on every connection after pauses of so many milliseconds as the fifth says, on average, as people
/// who know nothing of each other would; says in one line what came of it, with the latencies at the percentiles that follow.
const SCRIPT: &str = r#"
init = function(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method, wrk.body = "POST", file:read("*a")
  wrk.headers["Content-Type"] = args[2]
  file:close()
  if args[3] ~= "" then wrk.headers[args[3]] = args[4] end
  percentiles = {}
  local pause = tonumber(args[5])
  math.randomseed(seed)
  if pause > 0 then delay = function() return -math.log(1 - math.random()) * pause end end
  for index = 6, #args do table.insert(percentiles, tonumber(args[index])) end
end
local threads = 0
setup = function(made)
  thread, threads = made, threads + 1
  made:set("seed", threads)
end
done = function(summary, latency)
  local errors = summary.errors
  local failed = errors.status + errors.connect + errors.read + errors.write + errors.timeout
  local line = string.format("sample %d %d %d", summary.requests, summary.duration, failed)
  for _, percentile in ipairs(thread:get("percentiles")) do
    line = line .. string.format(" %d", latency:percentile(percentile))
  end
  io.write(line .. "\n")
end
"#;

/// What wrk asks for, and for how long.
pub(crate) struct Load<'a> {
    pub(crate) path: &'a str,
    pub(crate) body: &'a Path,
    pub(crate) content_type: &'a str,
    pub(crate) header: Option<(&'a str, &'a str)>,
    pub(crate) clients: Clients,
    pub(crate) seconds: u32,
}

/// Who asks, each on a connection.
#[derive(Clone, Copy)]
pub(crate) struct Clients {
    pub(crate) connections: u32,
    /// Between an answer and the next request of its connection, on average.
    pub(crate) pause: Duration,
    /// wrk's.
    pub(crate) threads: u32,
}

impl Clients {
    /// Such as ask again at once, from one thread.
    pub(crate) fn busy(connections: u32) -> Self {
        Self { connections, pause: Duration::ZERO, threads: 1 }
    }
}

/// What is asked of wrk's latencies: enough of them for a curve.
pub(crate) const PERCENTILES: [f64; 16] =
    [1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 97.0, 99.0, 99.5, 99.9];

/// One server under one load for a few seconds.
pub(crate) struct Sample {
    pub(crate) requests_per_second: f64,
    /// In microseconds, one for each of [`PERCENTILES`].
    pub(crate) latencies: [f64; PERCENTILES.len()],
    /// The server's, a request.
    pub(crate) cpu_micros: f64,
    /// Answers of 400 and above, and connections that broke.
    pub(crate) failed: f64,
}

impl Sample {
    pub(crate) fn p50(&self) -> f64 {
        self.percentile(50.0)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.percentile(99.0)
    }

    fn percentile(&self, wanted: f64) -> f64 {
        PERCENTILES.iter().zip(self.latencies).find(|(at, _)| **at >= wanted).map_or(f64::NAN, |(_, latency)| latency)
    }
}

pub(crate) struct Driver {
    script: PathBuf,
}

impl Driver {
    pub(crate) fn new(scratch: &Path) -> Result<Self> {
        let script = scratch.join("wrk.lua");
        std::fs::write(&script, SCRIPT)?;
        Ok(Self { script })
    }

    /// As [`Self::drive`], where every request must have been answered with 2xx.
    pub(crate) fn drive_whole(&self, server: &Running, load: &Load) -> Result<Sample> {
        let sample = self.drive(server, load)?;
        ensure!(sample.failed == 0.0, "{} requests were not answered with 2xx", sample.failed);
        Ok(sample)
    }

    pub(crate) fn drive(&self, server: &Running, load: &Load) -> Result<Sample> {
        let Load { path, body, content_type, header, clients: Clients { connections, pause, threads }, seconds } = load;
        let (header, value) = header.unwrap_or_default();
        let mut wrk = Command::new("wrk");
        wrk.args(["--latency", "--timeout=30s"]).arg(format!("--threads={threads}"));
        wrk.arg(format!("--connections={connections}")).arg(format!("--duration={seconds}s"));
        wrk.arg("--script")
            .arg(&self.script)
            .arg(format!("http://{}{path}", server.address))
            .arg("--")
            .arg(body)
            .args([content_type, header, value, &pause.as_millis().to_string()])
            .args(PERCENTILES.map(|percentile| percentile.to_string()));
        let before = server.cpu()?;
        let output = wrk.output().context("wrk cannot be started; `make bench` installs it")?;
        let cpu = server.cpu()? - before;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "wrk failed: {text}{}", String::from_utf8_lossy(&output.stderr));
        let line = text.lines().find_map(|line| line.strip_prefix("sample ")).context("wrk gave no sample")?;
        let numbers: Vec<f64> = line.split(' ').map(str::parse).collect::<Result<_, _>>()?;
        let [requests, micros, failed, latencies @ ..] = &numbers[..] else { anyhow::bail!("wrk said {line:?}") };
        ensure!(*requests > 0.0, "{} answered nothing on {connections} connection(s)", server.address);
        Ok(Sample {
            requests_per_second: requests / micros * 1e6,
            latencies: latencies.try_into().with_context(|| format!("wrk said {line:?}"))?,
            cpu_micros: cpu / requests,
            failed: *failed,
        })
    }
}
