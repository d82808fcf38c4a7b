//! `/v2/repository`: Triton's model repository extension. The index may be read by anyone; whoever loads or unloads must
//! come by the probe listener, or bring the token.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use axum::{Router, middleware};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::error::{self, Error, Flat, Kind};
use super::openapi::{Index, Load, REPOSITORY, Unload};
use super::{State, body, layer};
use crate::api::trust::{self, Trust};
use crate::api::{Shared, in_flight};
use crate::batch::control::Entry;
use crate::tensor::pool::Pool;

/// The largest body, in bytes, and how long it may take to come.
const BODY: (usize, Duration) = (64 << 10, Duration::from_secs(10));

/// What the protocol's requests may say.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = repository::Request)]
struct Asked {
    /// Of the index: only what serves.
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// A line of the index, in the protocol's words.
#[derive(Serialize, ToSchema)]
#[schema(as = repository::Model)]
struct Line<'a> {
    name: &'a str,
    version: &'a str,
    /// READY, LOADING, UNLOADING or UNAVAILABLE.
    state: &'static str,
    /// Why it does not serve.
    reason: &'a str,
}

pub(super) fn routes(shared: &Arc<Shared>, trust: Trust) -> Router<Arc<Shared>> {
    let count = middleware::from_fn_with_state(shared.clone(), in_flight::count);
    let load = move |state: State, name: Name, request: Request| async move {
        load(&state, trust, name, request).await.map(done).map_err(Flat)
    };
    let unload = move |state: State, name: Name, request: Request| async move {
        unload(&state, trust, name, request).await.map(done).map_err(Flat)
    };
    Router::new()
        .route("/v2/repository/index", post(index))
        .route("/v2/repository/models/{model}/load", post(load))
        .route("/v2/repository/models/{model}/unload", post(unload))
        .route_layer(middleware::from_fn(layer::encode))
        .route_layer(count)
}

type Name = Result<Path<String>, PathRejection>;

/// Which models there are, and their states.
#[utoipa::path(post, path = "/v2/repository/index", tag = REPOSITORY, operation_id = "repository_index",
    request_body(content = Asked), responses((status = 200, body = Vec<Line>), Index))]
pub(super) async fn index(state: State, request: Request) -> Result<Response, Flat> {
    let asked = read(request).await?;
    let entries = state.control.index().await;
    let wanted = entries.iter().filter(|entry| !asked.ready || entry.is_ready());
    Ok(error::json(StatusCode::OK, &wanted.map(line).collect::<Vec<_>>()))
}

fn line(entry: &Entry) -> Line<'_> {
    Line { name: &entry.name, version: &entry.version, state: entry.state.name(), reason: &entry.reason }
}

/// Loads a model, or what has changed of it.
///
/// Answers when it serves. What served before serves until then.
#[utoipa::path(post, path = "/v2/repository/models/{model}/load", tag = REPOSITORY, operation_id = "load_model",
    params(("model" = String, Path, description = "The name of its folder")), security(("control_token" = [])),
    request_body(content = Asked),
    responses((status = 200, description = "It serves", body = Done), Load))]
pub(super) async fn load(state: &Shared, trust: Trust, name: Name, request: Request) -> Result<(), Error> {
    trust.orders(state, request.headers())?;
    let asked = read(request).await?;
    if let Some(parameter) = asked.parameters.keys().next() {
        return Err(trust::no_parameter(parameter));
    }
    state.control.load(&decoded(name)?).await.map_err(|refused| state.refused(refused))
}

/// Takes a model away. Requests that it has begun are answered.
#[utoipa::path(post, path = "/v2/repository/models/{model}/unload", tag = REPOSITORY, operation_id = "unload_model",
    params(("model" = String, Path, description = "A model's name")), security(("control_token" = [])),
    request_body(content = Asked),
    responses((status = 200, description = "It serves no more", body = Done), Unload))]
pub(super) async fn unload(state: &Shared, trust: Trust, name: Name, request: Request) -> Result<(), Error> {
    trust.orders(state, request.headers())?;
    // `unload_dependents` is what Triton's clients send; no model depends on another here.
    read(request).await?;
    state.control.unload(&decoded(name)?).map_err(|refused| state.refused(refused))
}

/// An object without fields.
#[derive(ToSchema)]
#[schema(as = repository::Done)]
#[serde(deny_unknown_fields)]
struct Done {}

/// What the protocol answers where there is nothing to say.
fn done((): ()) -> Response {
    error::json(StatusCode::OK, &Map::new())
}

fn decoded(name: Name) -> Result<String, Error> {
    name.map(|Path(name)| name).map_err(|_| Error::new(Kind::NotFound, "the model's name is no UTF-8".to_owned()))
}

/// The body: nothing, or an object.
async fn read(request: Request) -> Result<Asked, Error> {
    let (most, time) = BODY;
    let (parts, body) = request.into_parts();
    // Memory of its own: an order is not held up by what requests for models hold.
    let pool = Pool::new(4 * most);
    let bytes = body::read_up_to(most, &parts.headers, body, Instant::now() + time, &pool).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Asked::default());
    }
    // By way of an object: serde would take an array for a struct, too.
    let asked = serde_json::from_slice(&bytes).and_then(|object| serde_json::from_value(Value::Object(object)));
    let expected = |error| format!("the body: {error}; expected none, or a JSON object such as {{}}");
    asked.map_err(|error| Error::new(Kind::BadInput, expected(error)))
}
