//! HTTP: the routes, and one state that every handler reads.
//!
//! The way of a request: `connection` accepts, `front` lets it in, `predict`, `v1` or `v2` parses and asks the batch queue
//! by way of `api`, `error` says what went wrong. `probe` tells what `health` has published, and waits for none of
//! these.

mod body;
pub mod connection;
mod console;
mod docs;
mod encoding;
pub mod error;
mod front;
mod layer;
mod log;
mod openapi;
pub(crate) mod predict;
mod probe;
mod repository;
mod target;
pub(crate) mod v1;
pub(crate) mod v2;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{Method, Uri, header};
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::api::Shared;
use crate::api::trust::Trust;
use crate::model::Version;
use crate::telemetry::metrics::{self, Scrape};
use error::{Error, Kind};
pub use front::Front;
use openapi::PROBES;

/// The largest request head, in bytes.
pub const MAX_HEAD: usize = 64 << 10;

/// What whoever asked for anything else is told of the main listener, and of the probe listener.
const MAIN_ROUTES: &str = "GET / /startup /health /ready /metrics /docs /openapi.json /log, PUT /log, \
                           POST /predict[/MODEL[/VERSION]]; \
                           GET /v1/models[/MODEL[/versions/VERSION]], POST …:predict; \
                           Open Inference Protocol: GET /v2 /v2/health/live|ready /v2/models/stats \
                           /v2/models/MODEL[/versions/VERSION][/ready|config|stats], POST …/infer /v2/repository/index \
                           /v2/repository/models/MODEL/load|unload";
const PROBE_ROUTES: &str = "GET /startup /health /ready /metrics /console/state /log, PUT /log, POST /v2/repository/index \
                            /v2/repository/models/MODEL/load|unload; predictions are made on --listen";

/// What every handler reads.
pub type State = axum::extract::State<Arc<Shared>>;

/// What the main listener answers.
pub fn front(shared: Arc<Shared>) -> Front {
    let encode = middleware::from_fn(layer::encode);
    let routes = probes()
        .route("/", get(console::index).layer(encode.clone()))
        .route("/openapi.json", get(openapi::document).layer(encode.clone()))
        .route("/docs", get(docs::page).layer(encode.clone()))
        .merge(console::routes(&shared))
        .merge(repository::routes(&shared, Trust::Token))
        .merge(log::routes(Trust::Token))
        .merge(v1::routes())
        .merge(v2::routes())
        .fallback(|method: Method, uri: Uri| async move { no_route(&method, &uri, MAIN_ROUTES) });
    Front::new(shared, routes, true)
}

/// What connections above `--max-connections` are answered: probes, and that there is no place for anything else.
pub fn reserve_front(shared: Arc<Shared>) -> Front {
    Front::new(shared, probes().fallback(no_place), false)
}

/// What the probe listener answers.
pub fn probe_front(shared: Arc<Shared>) -> Front {
    let routes = probes()
        .route("/console/state", get(console::state::state))
        .merge(repository::routes(&shared, Trust::Everyone))
        .merge(log::routes(Trust::Everyone))
        .fallback(|method: Method, uri: Uri| async move { no_route(&method, &uri, PROBE_ROUTES) });
    Front::new(shared, routes, false)
}

/// What Kubernetes and Prometheus ask.
fn probes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/startup", get(probe::startup))
        .route("/health", get(probe::health))
        .route("/ready", get(probe::ready))
        .route("/metrics", get(scrape).layer(middleware::from_fn(layer::encode)))
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = PROBES, operation_id = "metrics", responses((status = 200, body = String)))]
async fn scrape(state: State) -> impl IntoResponse {
    let table = state.models.now();
    for handle in table.all() {
        handle.count_waiting();
    }
    let states = state.control.states();
    let snapshot = state.health.snapshot();
    for dependency in state.health.dependencies(&snapshot) {
        state.telemetry.dependency(&dependency.report, dependency.up);
    }
    let text = state.telemetry.render(&Scrape {
        snapshot: &snapshot,
        in_flight: state.ledger.in_flight(),
        oldest_batch: state.oldest_batch.age(),
        request_memory: state.memory.used(),
        serving: table.all().map(|handle| described(&handle.version)).collect(),
        versions: states.iter().map(|entry| [&entry.name, &entry.version, entry.state.name()]).collect(),
        stuck_loads: state.control.stuck(),
        probe_answers: state.health.answers(),
    });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// As `torchpod_model_info` tells it.
fn described(version: &Version) -> metrics::Serving<'_> {
    let digest = version.digest.get().map(ToString::to_string).unwrap_or_default();
    metrics::Serving { model: &version.name, version: &version.version, digest, device: version.device.to_string() }
}

fn no_route(method: &Method, uri: &Uri, routes: &'static str) -> Error {
    Error::not_found(format!("no route {method} {}", error::shown(uri.path()))).hint(routes)
}

async fn no_place(request: Request) -> Error {
    let (parts, body) = request.into_parts();
    body::refuse(&parts.headers, body).await;
    Error::new(Kind::Overloaded, "the server has as many connections as it takes")
        .hint("close connections that are not needed, or raise --max-connections")
}

async fn no_method(method: Method, uri: Uri) -> Error {
    Error::no_method(&method, uri.path())
}
