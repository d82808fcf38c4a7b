//! `/console/state`: all that the console shows, in one answer that is cheap to give. What is counted is told as it is,
//! summed up from the start; whoever asks twice has what happened in between.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::who;
use crate::api::Shared;
use crate::batch::Handle;
use crate::health::Probe;
use crate::http::State;
use crate::http::error;
use crate::http::openapi::{Absent, SERVER};
use crate::http::probe::{self, DependencyBody, TransitionBody, seconds};
use crate::lifecycle::history::Transition;
use crate::lifecycle::{Fault, Snapshot};

/// The three, by their paths.
const PROBES: [(&str, Probe); 3] =
    [("/startup", Probe::Startup), ("/health", Probe::Liveness), ("/ready", Probe::Readiness)];

#[derive(Serialize, ToSchema)]
#[schema(as = console::State)]
struct Body<'a> {
    /// What `GET /` answers.
    who: String,
    version: &'static str,
    /// When the process started, which tells it from the one before.
    started: String,
    now: String,
    phase: &'static str,
    /// How long the phase has lasted.
    seconds: f64,
    /// What led to the phase.
    transition: &'a str,
    faults: Vec<&'static str>,
    probes: [Answer<'a>; 3],
    /// The last of them first.
    transitions: Vec<Change<'a>>,
    models: Vec<Model>,
    dependencies: Vec<DependencyBody<'a>>,
    in_flight: u64,
    oldest_batch_seconds: f64,
    request_memory_bytes: usize,
    request_memory_limit_bytes: usize,
}

/// What a probe answers.
#[derive(Serialize, ToSchema)]
#[schema(as = console::Probe)]
struct Answer<'a> {
    path: &'static str,
    status: u16,
    body: probe::Body<'a>,
    /// When its status came to be what it is; null where it has been so from the start, or for longer than transitions
    /// are kept.
    since: Option<String>,
}

/// A transition, and what the three probes answered from then on.
#[derive(Serialize, ToSchema)]
#[schema(as = console::Transition)]
struct Change<'a> {
    #[serde(flatten)]
    transition: TransitionBody<'a>,
    startup: u16,
    health: u16,
    ready: u16,
}

#[derive(Serialize, ToSchema)]
#[schema(as = console::Model)]
struct Model {
    #[serde(flatten)]
    known: probe::Model,
    /// Of a version that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    figures: Option<Figures>,
}

/// What a version has done, and what waits for it.
#[derive(Serialize, ToSchema)]
#[schema(as = console::Figures)]
struct Figures {
    /// The largest batch, in rows; null where each request is computed alone.
    max_batch_rows: Option<usize>,
    queue_requests: usize,
    queue_rows: usize,
    /// Requests that were answered with outputs, and those that were not.
    ok: u64,
    failed: u64,
    rows: u64,
    batches: u64,
    /// Requests that were answered with outputs, by how long they took: pairs of the seconds that a bucket ends at and of
    /// how many are in it.
    #[schema(value_type = Vec<Vec<f64>>)]
    latency: Vec<(f64, u64)>,
}

/// All that the console shows. Not there with `--no-console`, but for `--probe-listen`.
#[utoipa::path(get, path = "/console/state", tag = SERVER, operation_id = "console_state",
    responses((status = 200, body = Body), Absent))]
pub(in crate::http) async fn state(state: State) -> Response {
    let snapshot = state.health.snapshot();
    let dependencies = state.health.dependencies(&snapshot);
    let serving = state.models.now();
    let serving = serving.all().map(|handle| Model { known: probe::serves(handle), figures: Some(figures(handle)) });
    let others = probe::others(&state).map(|known| Model { known, figures: None });
    let body = Body {
        who: who(&state),
        version: env!("CARGO_PKG_VERSION"),
        started: time(snapshot.history.began()),
        now: time(std::time::SystemTime::now()),
        phase: snapshot.state.phase.name(),
        seconds: seconds(snapshot.age()),
        transition: snapshot.reason(),
        faults: snapshot.state.faults.iter().map(Fault::name).collect(),
        probes: PROBES.map(|(path, probe)| answer(&state, path, probe, &snapshot)),
        transitions: snapshot.history.last().rev().map(|transition| change(&state, transition)).collect(),
        models: serving.chain(others).collect(),
        dependencies: dependencies.iter().map(probe::dependency).collect(),
        in_flight: state.ledger.in_flight(),
        oldest_batch_seconds: seconds(state.oldest_batch.age()),
        request_memory_bytes: state.memory.used(),
        request_memory_limit_bytes: state.memory.limit(),
    };
    let mut response = error::json(StatusCode::OK, &body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn answer<'a>(shared: &Shared, path: &'static str, probe: Probe, snapshot: &'a Snapshot) -> Answer<'a> {
    let verdict = shared.health.verdict(probe, &snapshot.state);
    let since = shared.health.turned(probe, snapshot).map(time);
    Answer { path, status: probe::status(verdict).as_u16(), body: probe::body(verdict, snapshot), since }
}

fn change<'a>(shared: &Shared, made: &'a Transition) -> Change<'a> {
    let [startup, health, ready] =
        PROBES.map(|(_, probe)| probe::status(shared.health.verdict(probe, &made.after)).as_u16());
    Change { transition: probe::transition(made), startup, health, ready }
}

fn figures(handle: &Handle) -> Figures {
    let (sums, waiting) = (handle.metrics.statistics(), handle.waiting());
    Figures {
        max_batch_rows: handle.version.row_wise().then_some(handle.version.spec.max_size),
        queue_requests: waiting.requests,
        queue_rows: waiting.rows,
        ok: sums.success.count,
        failed: sums.fail.count,
        rows: sums.rows,
        batches: sums.compute.count,
        latency: sums.spread.into_iter().map(|(end, count)| (end.as_secs_f64(), count)).collect(),
    }
}

fn time(at: std::time::SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}
