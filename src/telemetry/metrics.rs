//! Every metric that is recorded, in one place, by the names of `table`. Handles are made once: recording is an atomic
//! operation.

#![allow(clippy::disallowed_macros)] // This is the place for them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio::runtime::Handle;

use super::exposition;
use super::figures::Figures;
use super::protocol::Protocol;
use super::registry::Registry;
use super::slow::Slow;
use super::statistics::{Snapshot as Sums, Statistics};
use super::table::{
    BATCH_CUTS, BATCH_MAX_ROWS, BATCH_ROWS, BUILD_INFO, COMPUTE_SECONDS, CONNECTIONS, DEPENDENCY_AGE,
    DEPENDENCY_CHECKS, DEPENDENCY_LATENCY, DEPENDENCY_UP, DROPPED_LINES, FAULT, FORMAT_SECONDS, IN_FLIGHT,
    LOAD_SECONDS, LOADS, MODEL_INFO, MODEL_STATE, OLDEST_BATCH, PARSE_SECONDS, PHASE, PROBE_ANSWERS, QUEUE_BYTES,
    QUEUE_REQUESTS, QUEUE_ROWS, QUEUE_SECONDS, REQUEST_MEMORY, REQUEST_SECONDS, REQUESTS, ROWS, STUCK_LOADS,
    TRANSITIONS, WORKER_RESTARTS, describe,
};
use super::trace::Tracer;
use crate::dependency;
use crate::lifecycle::{Fault, Phase, Snapshot};

/// Versions whose series stay after they have left, so that a scrape still finds their last counts.
pub(super) const KEPT: usize = 8;

/// From the 30 µs of a small model to the 30 s of the default request timeout.
pub(super) const SECONDS_BUCKETS: [f64; 19] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 20.0, 30.0,
];
pub(super) const ROWS_BUCKETS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

const UPKEEP: Duration = Duration::from_secs(5);

/// The server's metrics. Each server has its own, so that several live in one test process.
pub struct Telemetry {
    pub slow: Slow,
    pub tracer: Option<Arc<Tracer>>,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    connections: Mutex<Vec<(Gauge, CountConnections)>>,
    loads: [Counter; 5],
    figures: Figures,
    /// The series of versions, apart from the server's own, since they leave with them.
    registry: Registry,
    /// The latest last.
    versions: Mutex<Vec<Arc<Series>>>,
}

/// The series of one version.
struct Series {
    model: String,
    version: String,
    recorder: Registry,
    statistics: Statistics,
}

impl Series {
    fn new(model: &str, version: &str, recorder: Registry) -> Self {
        Self { model: model.to_owned(), version: version.to_owned(), recorder, statistics: Statistics::default() }
    }

    fn forget(&self) {
        self.recorder.forget(&[("model", &self.model), ("version", &self.version)]);
    }
}

/// What is read from its owners at the moment of a scrape.
pub struct Scrape<'a> {
    pub snapshot: &'a Snapshot,
    pub in_flight: u64,
    /// How long the oldest batch has been running.
    pub oldest_batch: Duration,
    /// Bytes of bodies and tensors.
    pub request_memory: usize,
    pub serving: Vec<Serving<'a>>,
    /// Every version that is known: model, version, and its state.
    pub versions: Vec<[&'a str; 3]>,
    /// Loads that were given up and whose threads are stuck.
    pub stuck_loads: usize,
    /// How often a probe was answered: its name, the verdict, and the count.
    pub probe_answers: Vec<(&'static str, &'static str, u64)>,
}

/// A version that serves.
pub struct Serving<'a> {
    pub model: &'a str,
    pub version: &'a str,
    pub digest: String,
    pub device: String,
}

/// How an order to load ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    Ok,
    /// Something was wrong with the folder.
    Folder,
    /// It could not be read, or did not do what it should.
    Failed,
    TimedOut,
    /// An unload or a drain came first.
    Overtaken,
}

const LOAD_OUTCOMES: [&str; 5] = ["ok", "bad_folder", "failed", "timed_out", "overtaken"];

type CountConnections = Box<dyn Fn() -> usize + Send>;

/// One model's metrics. Cloning shares them.
#[derive(Clone)]
pub struct ModelMetrics {
    /// Held also to say that somebody still counts here.
    series: Arc<Series>,
    load_seconds: Gauge,
    requests: [[Counter; 6]; 4],
    rows: [[Counter; 6]; 4],
    request_seconds: Histogram,
    parse_seconds: Histogram,
    format_seconds: Histogram,
    queue_seconds: Histogram,
    compute_seconds: Histogram,
    batch_rows: Histogram,
    batch_max_rows: Gauge,
    cuts: [Counter; 5],
    queue_requests: Gauge,
    queue_rows: Gauge,
    queue_bytes: Gauge,
    worker_restarts: Counter,
}

/// How a request to a model ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    ClientError,
    Refused,
    /// Not computed in time, or refused since it could not be.
    Deadline,
    ServerError,
    /// The client closed its connection before it had its answer.
    Left,
}

impl Outcome {
    pub fn name(self) -> &'static str {
        OUTCOMES[self as usize]
    }
}

const OUTCOMES: [&str; 6] = ["ok", "client_error", "refused", "deadline", "server_error", "left"];

/// Why a batch did not wait for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutReason {
    /// It takes no more.
    Full,
    /// A worker had nothing to do, and took all there was.
    Idle,
    /// It has waited for `max_delay`.
    Delay,
    /// Waiting on would miss a deadline.
    Deadline,
    /// Others wait that cannot share it.
    Shape,
}

impl CutReason {
    pub fn name(self) -> &'static str {
        CUT_REASONS[self as usize]
    }
}

const CUT_REASONS: [&str; 5] = ["full", "idle", "delay", "deadline", "shape"];

/// One that tells of no slow request, and no collector.
impl Default for Telemetry {
    fn default() -> Self {
        Self::new(Slow::new(None), None)
    }
}

impl Telemetry {
    /// Which tells of some `slow` requests, and a collector of traces by the `tracer`.
    pub fn new(slow: Slow, tracer: Option<Tracer>) -> Self {
        let (recorder, registry) = (build(), Registry::new(buckets));
        metrics::with_local_recorder(&registry, describe);
        let handle = recorder.handle();
        let loads = metrics::with_local_recorder(&recorder, || {
            describe();
            LOAD_OUTCOMES.map(|outcome| counter!(LOADS, "outcome" => outcome))
        });
        let (connections, figures, versions) = (Mutex::default(), Figures::default(), Mutex::default());
        Self { slow, tracer: tracer.map(Arc::new), recorder, handle, connections, loads, figures, registry, versions }
    }

    /// Which traces are kept, and where they go.
    pub fn tracer(&self) -> Option<&Tracer> {
        self.tracer.as_deref()
    }

    /// Sets `torchpod_build_info`, whose labels tell what runs.
    pub fn build_info(&self, engine: &str, library: &str) {
        metrics::with_local_recorder(&self.recorder, || {
            let labels = [
                ("version", env!("CARGO_PKG_VERSION").to_owned()),
                ("abi", torchpod_abi::VERSION.to_string()),
                ("engine", engine.to_owned()),
                ("library", library.to_owned()),
            ];
            gauge!(BUILD_INFO, &labels).set(1.0);
        });
    }

    /// From now on, a scrape asks `open` for the connections of this listener, e.g. `http`.
    pub fn listener(&self, name: &'static str, open: impl Fn() -> usize + Send + 'static) {
        let gauge = metrics::with_local_recorder(&self.recorder, || gauge!(CONNECTIONS, "listener" => name));
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).push((gauge, Box::new(open)));
    }

    /// From now on, a scrape tells how busy this runtime is, e.g. `main`.
    pub fn runtime(&self, name: &'static str, runtime: Handle) {
        self.figures.runtime(name, runtime);
    }

    /// From now on, the GPUs that this process can see are asked how they are, and a scrape tells it.
    pub fn watch_gpus(&self) {
        self.figures.watch_gpus();
    }

    /// An order to load has ended.
    pub fn load(&self, outcome: Load) {
        self.loads[outcome as usize].increment(1);
    }

    /// The handles of one version of a model; a version that comes again counts on.
    pub fn model(&self, name: &str, version: &str) -> ModelMetrics {
        let labels = [("model", name.to_owned()), ("version", version.to_owned())];
        let series = self.series(name, version);
        metrics::with_local_recorder(&series.recorder, || ModelMetrics {
            series: series.clone(),
            load_seconds: gauge!(LOAD_SECONDS, &labels),
            requests: by_protocol_and_outcome(REQUESTS, &labels),
            rows: by_protocol_and_outcome(ROWS, &labels),
            request_seconds: histogram!(REQUEST_SECONDS, &labels),
            parse_seconds: histogram!(PARSE_SECONDS, &labels),
            format_seconds: histogram!(FORMAT_SECONDS, &labels),
            queue_seconds: histogram!(QUEUE_SECONDS, &labels),
            compute_seconds: histogram!(COMPUTE_SECONDS, &labels),
            batch_rows: histogram!(BATCH_ROWS, &labels),
            batch_max_rows: gauge!(BATCH_MAX_ROWS, &labels),
            cuts: CUT_REASONS.map(|reason| {
                let [model, version] = labels.clone();
                counter!(BATCH_CUTS, &[model, version, ("reason", reason.to_owned())])
            }),
            queue_rows: gauge!(QUEUE_ROWS, &labels),
            queue_bytes: gauge!(QUEUE_BYTES, &labels),
            queue_requests: gauge!(QUEUE_REQUESTS, &labels),
            worker_restarts: counter!(WORKER_RESTARTS, &labels),
        })
    }

    /// The version's own, old or new. Of those that nobody counts in any more, the last [`KEPT`] stay.
    fn series(&self, model: &str, version: &str) -> Arc<Series> {
        let mut versions = self.lock();
        let known = versions.iter().position(|series| series.model == model && series.version == version);
        let series = match known {
            Some(index) => versions.remove(index),
            None => Arc::new(Series::new(model, version, self.registry.clone())),
        };
        let left = versions.iter().filter(|series| Arc::strong_count(series) == 1).count();
        let mut too_many = left.saturating_sub(KEPT);
        versions.retain(|series| {
            let goes = too_many > 0 && Arc::strong_count(series) == 1;
            if goes {
                too_many -= 1;
                series.forget();
            }
            !goes
        });
        versions.push(series.clone());
        series
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Series>>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A dependency's figures, told before a scrape.
    pub fn dependency(&self, report: &dependency::Report, up: bool) {
        let name = || ("dependency", report.name.clone());
        let required = ("required", report.required.to_string());
        metrics::with_local_recorder(&self.recorder, || {
            gauge!(DEPENDENCY_UP, &[name(), required]).set(flag(up));
            for (outcome, count) in [("ok", report.succeeded), ("failed", report.failed)] {
                counter!(DEPENDENCY_CHECKS, &[name(), ("outcome", outcome.to_owned())]).absolute(count);
            }
            for (gauge, time) in [(DEPENDENCY_LATENCY, report.latency), (DEPENDENCY_AGE, report.age)] {
                if let Some(time) = time {
                    gauge!(gauge, &[name()]).set(time.as_secs_f64());
                }
            }
        });
    }

    /// The text that Prometheus scrapes.
    pub fn render(&self, scrape: &Scrape<'_>) -> String {
        let Scrape { snapshot, in_flight, oldest_batch, request_memory, stuck_loads, probe_answers, .. } = scrape;
        for (gauge, open) in self.connections.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            #[allow(clippy::cast_precision_loss)] // A process has fewer than 2⁵³ descriptors.
            gauge.set(open() as f64);
        }
        metrics::with_local_recorder(&self.recorder, || {
            for name in Phase::NAMES {
                gauge!(PHASE, "phase" => name).set(flag(name == snapshot.state.phase.name()));
            }
            for fault in Fault::ALL {
                gauge!(FAULT, "fault" => fault.name()).set(flag(snapshot.state.faults.contains(fault)));
            }
            for (subject, to, count) in snapshot.history.counts() {
                counter!(TRANSITIONS, &[("subject", subject.to_owned()), ("to", to.to_owned())]).absolute(count);
            }
            for &(probe, verdict, count) in probe_answers {
                counter!(PROBE_ANSWERS, "probe" => probe, "verdict" => verdict).absolute(count);
            }
            #[allow(clippy::cast_precision_loss)] // Nobody has 2⁵³ requests in flight.
            gauge!(IN_FLIGHT).set(*in_flight as f64);
            #[allow(clippy::cast_precision_loss)] // Nobody has 2⁵³ bytes.
            gauge!(REQUEST_MEMORY).set(*request_memory as f64);
            counter!(DROPPED_LINES).absolute(super::log::dropped_lines());
            gauge!(OLDEST_BATCH).set(oldest_batch.as_secs_f64());
            #[allow(clippy::cast_precision_loss)] // Nobody has 2⁵³ threads.
            gauge!(STUCK_LOADS).set(*stuck_loads as f64);
        });
        let mut text = exposition::merge(&[self.handle.render(), of_this_moment(scrape), self.figures.text()]);
        self.registry.render(&mut text);
        text
    }

    /// Lets the exporter fold what it has. Without it that piles up for as long as nobody scrapes.
    pub async fn upkeep(&self) {
        let mut interval = tokio::time::interval(UPKEEP);
        loop {
            interval.tick().await;
            self.handle.run_upkeep();
        }
    }
}

/// What is true of versions now: series whose labels change, so that none may be left of an earlier scrape.
fn of_this_moment(scrape: &Scrape<'_>) -> String {
    let recorder = build();
    metrics::with_local_recorder(&recorder, || {
        describe();
        for Serving { model, version, digest, device } in &scrape.serving {
            let labels = [("model", *model), ("version", *version), ("digest", digest), ("device", device)];
            gauge!(MODEL_INFO, &labels.map(|(name, value)| (name, value.to_owned()))).set(1.0);
        }
        for [model, version, state] in &scrape.versions {
            let labels = [("model", *model), ("version", *version), ("state", &state.to_lowercase())];
            gauge!(MODEL_STATE, &labels.map(|(name, value)| (name, value.to_owned()))).set(1.0);
        }
    });
    recorder.handle().render()
}

fn by_protocol_and_outcome(name: &'static str, labels: &[(&'static str, String); 2]) -> [[Counter; 6]; 4] {
    Protocol::ALL.map(|protocol| {
        OUTCOMES.map(|outcome| {
            let [model, version] = labels.clone();
            let (protocol, outcome) = (protocol.name().to_owned(), outcome.to_owned());
            counter!(name, &[model, version, ("protocol", protocol), ("outcome", outcome)])
        })
    })
}

fn flag(is_so: bool) -> f64 {
    if is_so { 1.0 } else { 0.0 }
}

/// For the server's own series, none of which is a histogram.
fn build() -> PrometheusRecorder {
    PrometheusBuilder::new().build_recorder()
}

/// The upper ends of a histogram's buckets.
fn buckets(name: &str) -> &'static [f64] {
    if name == BATCH_ROWS { &ROWS_BUCKETS } else { &SECONDS_BUCKETS }
}

impl ModelMetrics {
    /// One has ended, which had so many rows, as far as that was known.
    pub fn request(&self, protocol: Protocol, outcome: Outcome, rows: usize, took: Duration) {
        self.requests[protocol as usize][outcome as usize].increment(1);
        self.rows[protocol as usize][outcome as usize].increment(rows as u64);
        self.request_seconds.record(took);
        self.series.statistics.request(outcome, took);
    }

    pub fn parse_time(&self, took: Duration) {
        self.parse_seconds.record(took);
    }

    pub fn format_time(&self, took: Duration) {
        self.format_seconds.record(took);
    }

    pub fn queue_time(&self, waited: Duration) {
        self.queue_seconds.record(waited);
        self.series.statistics.queued(waited);
    }

    #[allow(clippy::cast_precision_loss)] // A batch has fewer than 2⁵³ rows.
    pub fn batch(&self, rows: usize, took: Duration) {
        self.batch_rows.record(rows as f64);
        self.compute_seconds.record(took);
        self.series.statistics.batch(rows, took);
    }

    /// What has happened up to now, in sums.
    pub fn statistics(&self) -> Sums {
        self.series.statistics.read()
    }

    /// A batch was cut.
    pub fn cut(&self, reason: CutReason) {
        self.cuts[reason as usize].increment(1);
    }

    #[allow(clippy::cast_precision_loss)] // A batch has fewer than 2⁵³ rows.
    pub fn batch_max_rows(&self, rows: usize) {
        self.batch_max_rows.set(rows as f64);
    }

    /// The version has been read, proved and warmed.
    pub fn loaded(&self, took: Duration) {
        self.load_seconds.set(took.as_secs_f64());
    }

    pub fn worker_restart(&self) {
        self.worker_restarts.increment(1);
    }

    /// Told before a scrape by the queue's owner.
    #[allow(clippy::cast_precision_loss)] // A queue holds fewer than 2⁵³ requests.
    pub fn waiting(&self, requests: usize) {
        self.queue_requests.set(requests as f64);
    }

    /// As [`Self::waiting`].
    #[allow(clippy::cast_precision_loss)] // A queue holds fewer than 2⁵³ rows.
    pub fn waiting_rows(&self, rows: usize) {
        self.queue_rows.set(rows as f64);
    }

    /// As [`Self::waiting`].
    #[allow(clippy::cast_precision_loss)] // Nobody has 2⁵³ bytes.
    pub fn waiting_bytes(&self, bytes: usize) {
        self.queue_bytes.set(bytes as f64);
    }
}

#[cfg(test)]
mod tests;
