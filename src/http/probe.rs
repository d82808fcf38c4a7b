//! `/startup`, `/health` and `/ready`: the verdict, and enough to see why. The console shows the same bodies.

use std::time::Duration;

use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::openapi::PROBES;
use super::{Shared, State, error};
use crate::batch::Handle;
use crate::batch::control::Entry;
use crate::health::{Dependency, Probe, Verdict};
use crate::lifecycle::history::Transition;
use crate::lifecycle::{Fault, Phase, Snapshot};

/// The lesson's `{"status": …}`, then detail. Below 1 KiB unless verbose.
#[derive(Serialize, ToSchema)]
#[schema(as = probe::Verdict)]
pub(super) struct Body<'a> {
    status: &'static str,
    phase: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    stage: Option<&'a str>,
    /// How much of the stage is done, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    progress: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    verbose: Option<Verbose<'a>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = probe::Verbose)]
struct Verbose<'a> {
    /// How long the phase has lasted.
    seconds: f64,
    /// What led to the phase.
    transition: &'a str,
    faults: Vec<&'static str>,
    models: Vec<Model>,
    dependencies: Vec<DependencyBody<'a>>,
    in_flight: u64,
    /// The last of them first.
    transitions: Vec<TransitionBody<'a>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = probe::Model)]
pub(super) struct Model {
    name: String,
    version: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    device: Option<String>,
    /// Why it does not serve.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    reason: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = probe::Dependency)]
pub(super) struct DependencyBody<'a> {
    name: &'a str,
    state: &'static str,
    required: bool,
    /// How long it has been in this state.
    seconds: f64,
    /// How long ago its last check ended.
    checked_seconds_ago: Option<f64>,
    latency_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<&'a str>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = probe::Transition)]
pub(super) struct TransitionBody<'a> {
    /// RFC 3339.
    at: String,
    subject: &'a str,
    from: &'static str,
    to: &'static str,
    reason: &'a str,
    /// How long `from` had lasted.
    seconds: f64,
}

/// Whether this is a path that Kubernetes asks, or Prometheus.
pub(super) fn is_one(path: &str) -> bool {
    matches!(path, "/startup" | "/health" | "/ready" | "/metrics")
}

/// Whether every model has been loaded, checked and warmed.
#[utoipa::path(get, path = "/startup", tag = PROBES, operation_id = "startup",
    params(("verbose" = Option<String>, Query, description = "Whatever it is, models, dependencies and transitions are told")),
    responses((status = 200, body = Body), (status = 503, body = Body)))]
pub(super) async fn startup(state: State, uri: Uri) -> Response {
    answer(&state, Probe::Startup, &uri)
}

/// Whether the process is worth keeping.
#[utoipa::path(get, path = "/health", tag = PROBES, operation_id = "health",
    params(("verbose" = Option<String>, Query, description = "Whatever it is, models, dependencies and transitions are told")),
    responses((status = 200, body = Body), (status = 503, body = Body)))]
pub(super) async fn health(state: State, uri: Uri) -> Response {
    answer(&state, Probe::Liveness, &uri)
}

/// Whether it serves: no fault, and every required dependency is up.
#[utoipa::path(get, path = "/ready", tag = PROBES, operation_id = "ready",
    params(("verbose" = Option<String>, Query, description = "Whatever it is, models, dependencies and transitions are told")),
    responses((status = 200, body = Body), (status = 503, body = Body)))]
pub(super) async fn ready(state: State, uri: Uri) -> Response {
    answer(&state, Probe::Readiness, &uri)
}

fn answer(shared: &Shared, probe: Probe, uri: &Uri) -> Response {
    let (verdict, snapshot) = shared.health.ask(probe);
    let asked_for_more = uri.query().is_some_and(|query| query.split('&').any(|key| key.starts_with("verbose")));
    let dependencies = if asked_for_more { shared.health.dependencies(&snapshot) } else { Vec::new() };
    let verbose = asked_for_more.then(|| verbose(shared, &snapshot, &dependencies));
    error::json(status(verdict), &Body { verbose, ..body(verdict, &snapshot) })
}

pub(super) fn status(verdict: Verdict) -> StatusCode {
    if verdict.pass { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// What a probe says that asks for no more than that.
pub(super) fn body(verdict: Verdict, snapshot: &Snapshot) -> Body<'_> {
    let on_the_way_up = matches!(snapshot.state.phase, Phase::Loading | Phase::Warming) && !snapshot.stage.is_empty();
    Body {
        status: verdict.status,
        phase: snapshot.state.phase.name(),
        reason: verdict.reason,
        stage: on_the_way_up.then_some(&*snapshot.stage),
        progress: on_the_way_up.then_some(snapshot.progress),
        verbose: None,
    }
}

fn verbose<'a>(shared: &'a Shared, snapshot: &'a Snapshot, dependencies: &'a [Dependency]) -> Verbose<'a> {
    Verbose {
        seconds: seconds(snapshot.age()),
        transition: snapshot.reason(),
        faults: snapshot.state.faults.iter().map(Fault::name).collect(),
        models: models(shared),
        dependencies: dependencies.iter().map(dependency).collect(),
        in_flight: shared.ledger.in_flight(),
        transitions: snapshot.history.last().rev().map(transition).collect(),
    }
}

/// Those that serve first.
fn models(shared: &Shared) -> Vec<Model> {
    let serving = shared.models.now();
    serving.all().map(serves).chain(others(shared)).collect()
}

pub(super) fn serves(handle: &Handle) -> Model {
    Model {
        name: handle.version.name.clone(),
        version: handle.version.version.clone(),
        state: "READY",
        digest: handle.version.digest.get().map(ToString::to_string),
        device: Some(handle.version.device.to_string()),
        reason: String::new(),
    }
}

/// Those that do not serve.
pub(super) fn others(shared: &Shared) -> impl Iterator<Item = Model> {
    let states = shared.control.states().into_iter().filter(|entry| !entry.is_ready());
    states.map(|Entry { name, version, state, reason }| {
        let state = state.name();
        Model { name, version, state, digest: None, device: None, reason }
    })
}

pub(super) fn dependency(known: &Dependency) -> DependencyBody<'_> {
    let report = &known.report;
    DependencyBody {
        name: &report.name,
        state: if known.up { "up" } else { "down" },
        required: report.required,
        seconds: seconds(known.lasted),
        checked_seconds_ago: report.age.map(seconds),
        latency_seconds: report.latency.map(seconds),
        error: report.error.as_deref(),
    }
}

pub(super) fn transition(transition: &Transition) -> TransitionBody<'_> {
    TransitionBody {
        at: humantime::format_rfc3339_millis(transition.at).to_string(),
        subject: &transition.subject,
        from: transition.from,
        to: transition.to,
        reason: &transition.reason,
        seconds: seconds(transition.lasted),
    }
}

/// To the microsecond: more would be noise.
pub(super) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e6
}
