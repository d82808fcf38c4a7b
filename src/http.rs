//! HTTP: the routes, and one state that every handler reads.
//!
//! The way of a request: `connection` accepts, `api::in_flight` counts, `predict`, `v1` or `v2` parses and asks the batch
//! queue by way of `api`, `error` says what went wrong. `probe` tells what `health` has published, and waits for none of
//! these.

mod body;
pub mod connection;
mod console;
mod docs;
mod encoding;
pub mod error;
mod layer;
mod openapi;
pub(crate) mod predict;
mod probe;
mod repository;
mod target;
pub(crate) mod v1;
pub(crate) mod v2;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, Uri, header};
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::trace::{DefaultOnFailure, TraceLayer};
use tracing::Level;

use crate::api::trust::Trust;
use crate::api::{Shared, identity, in_flight};
use crate::model::Version;
use crate::telemetry::metrics::{self, Scrape};
use error::{Error, Kind};
use openapi::PROBES;

/// The largest request head, in bytes.
pub const MAX_HEAD: usize = 64 << 10;

/// What whoever asked for anything else is told of the main listener, and of the probe listener.
const MAIN_ROUTES: &str = "GET / /startup /health /ready /metrics /docs /openapi.json, \
                           POST /predict[/MODEL[/VERSION]]; \
                           GET /v1/models[/MODEL[/versions/VERSION]], POST …:predict; \
                           Open Inference Protocol: GET /v2 /v2/health/live|ready /v2/models/stats \
                           /v2/models/MODEL[/versions/VERSION][/ready|config|stats], POST …/infer /v2/repository/index \
                           /v2/repository/models/MODEL/load|unload";
const PROBE_ROUTES: &str = "GET /startup /health /ready /metrics, POST /v2/repository/index \
                            /v2/repository/models/MODEL/load|unload; predictions are made on --listen";

/// What every handler reads.
pub type State = axum::extract::State<Arc<Shared>>;

/// The router of the main listener.
pub fn router(shared: Arc<Shared>) -> Router {
    let count = middleware::from_fn_with_state(shared.clone(), in_flight::count);
    let encode = middleware::from_fn(layer::encode);
    let predict = || post(predict::predict).layer(encode.clone()).layer(count.clone());
    let routes = Router::new()
        .route("/", get(console::index).layer(encode.clone()))
        .route("/openapi.json", get(openapi::document).layer(encode.clone()))
        .route("/docs", get(docs::page).layer(encode.clone()))
        .route("/predict", predict())
        .route("/predict/{model}", predict())
        .route("/predict/{model}/{version}", predict())
        .merge(console::routes(&shared))
        .merge(repository::routes(&shared, Trust::Token))
        .merge(v1::routes(&shared))
        .merge(v2::routes(&shared))
        .fallback(|method: Method, uri: Uri| async move { no_route(&method, &uri, MAIN_ROUTES) });
    wrapped(probes(), shared.clone()).merge(identity::with_ids(wrapped(routes, shared)))
}

/// The router of connections above `--max-connections`: probes are answered, whatever else is asked is refused.
pub fn reserve_router(shared: Arc<Shared>) -> Router {
    let rest = Router::new().fallback(no_place);
    wrapped(probes(), shared.clone()).merge(identity::with_ids(wrapped(rest, shared)))
}

/// The router of the probe listener.
pub fn probe_router(shared: Arc<Shared>) -> Router {
    let rest = repository::routes(&shared, Trust::Everyone)
        .fallback(|method: Method, uri: Uri| async move { no_route(&method, &uri, PROBE_ROUTES) });
    wrapped(probes(), shared.clone()).merge(identity::with_ids(wrapped(rest, shared)))
}

/// What Kubernetes and Prometheus ask.
fn probes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/startup", get(probe::startup))
        .route("/health", get(probe::health))
        .route("/ready", get(probe::ready))
        .route("/metrics", get(scrape).layer(middleware::from_fn(layer::encode)))
}

/// `inner` in the layers that every listener has.
fn wrapped(inner: Router<Arc<Shared>>, shared: Arc<Shared>) -> Router {
    let router = inner
        .method_not_allowed_fallback(no_method)
        .layer(middleware::from_fn(layer::limit_head))
        .layer(middleware::from_fn_with_state(shared.clone(), layer::send_off))
        .layer(CatchPanicLayer::custom(error::panicked))
        .with_state(shared);
    if !tracing::enabled!(target: "tower_http", Level::DEBUG) {
        return router; // Spans that nobody sees cost some microseconds a request all the same.
    }
    // Failures too at debug level: a probe that says 503 is no error of the server's.
    let on_failure = DefaultOnFailure::new().level(Level::DEBUG);
    router.layer(TraceLayer::new_for_http().make_span_with(span::<Body>).on_failure(on_failure))
}

/// What the lines of a request have in common, at debug level.
fn span<B>(request: &axum::http::Request<B>) -> tracing::Span {
    let ids = identity::of(request.extensions());
    let (request_id, trace_id) = (ids.request.as_deref(), ids.trace.map(tracing::field::display));
    tracing::debug_span!(
        target: "tower_http",
        "request",
        method = %request.method(),
        uri = %request.uri(),
        version = ?request.version(),
        request_id,
        trace_id
    )
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
    Error::method_not_allowed(format!("{} does not take {}", error::shown(uri.path()), error::shown(method.as_str())))
        .hint("the Allow header names the methods that it takes")
}
