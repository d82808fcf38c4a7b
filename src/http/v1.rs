//! `/v1`: version 1 of `KServe`'s protocol, which is `TensorFlow` Serving's. `request` reads rows or columns, and `answer`
//! gives back what came: a prediction for each row, or outputs as columns.

mod answer;
pub(crate) mod request;
mod rows;
mod schema;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};

use super::error::{self, Error, Flat};
use super::openapi::{FIRST_PROTOCOL, Inference, Named, Unknown, Wishes};
use super::target::{self, Path};
use super::{State, body, layer};
use crate::api::{self, Shared, Terms, identity, in_flight};
use crate::batch::Handle;
use crate::health::Probe;

pub(super) fn routes(shared: &Arc<Shared>) -> Router<Arc<Shared>> {
    let count = middleware::from_fn_with_state(shared.clone(), in_flight::count);
    // A path ends with what is asked of the model, as in `digits:predict`, which is no part of its own for the router.
    let model = || get(model).merge(post(predict).layer(middleware::from_fn(layer::encode)).layer(count.clone()));
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", model())
        .route("/v1/models/{model}/versions/{version}", model())
}

/// The names of those that serve.
#[utoipa::path(get, path = "/v1/models", tag = FIRST_PROTOCOL, operation_id = "v1_models",
    responses((status = 200, body = schema::Models)))]
pub(super) async fn models(state: State) -> Response {
    let names: Vec<String> = state.models.now().names().map(str::to_owned).collect();
    error::json(StatusCode::OK, &schema::Models { models: names })
}

/// Whether a model serves, and in which versions.
///
/// In the words of both: `KServe`'s `ready`, and `TensorFlow` Serving's list of versions, of all where none is named.
#[utoipa::path(get, path = "/v1/models/{model}/versions/{version}", tag = FIRST_PROTOCOL, operation_id = "v1_model",
    params(Named), responses((status = 200, body = schema::Model), (status = 503, body = schema::Model), Unknown))]
pub(super) async fn model(state: State, path: Path) -> Result<Response, Flat> {
    let one = path.as_ref().is_ok_and(|path| path.iter().any(|(name, _)| name == "version"));
    let model = target::resolve(&state, path)?;
    let name = &model.version.name;
    let table = state.models.now();
    let versions: Vec<schema::Available> = match table.versions(name) {
        all if !one => all.iter().map(available).collect(),
        _ => vec![available(&model)],
    };
    // As for `/v2`: dependencies are the server's affair, a model is ready where it serves and the server is healthy.
    let ready = state.health.ask(Probe::Liveness).0.pass;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(error::json(status, &schema::Model { name: name.clone(), ready, model_version_status: versions }))
}

fn available(model: &Handle) -> schema::Available {
    let status = schema::Status { error_code: "OK", error_message: "" };
    schema::Available { version: model.version.version.clone(), state: "AVAILABLE", status }
}

/// Predictions for rows, or outputs for inputs.
#[utoipa::path(post, path = "/v1/models/{model}/versions/{version}:predict", tag = FIRST_PROTOCOL,
    operation_id = "v1_predict", params(Named, Wishes), request_body(content = schema::Request),
    responses((status = 200, body = schema::Answer, headers(
            ("torchpod-model" = String, description = "Who answered"),
            ("torchpod-model-version" = String), ("torchpod-model-digest" = String))), Inference))]
pub(super) async fn predict(state: State, path: Path, request: Request) -> Result<Response, Flat> {
    let started = Instant::now();
    let model = asked(&state, path)?;
    let ids = identity::of(request.extensions());
    let result = api::counted(&model, started, &ids, compute(&state, &model, request, started)).await;
    Ok(identity::stamp(&model, result.map_err(Flat).into_response()))
}

/// The model of a path that ends with `:predict`.
fn asked(state: &Shared, path: Path) -> Result<Handle, Error> {
    let path = path.map_err(|_| Error::not_found("the model's name is no UTF-8"))?;
    let mut parts: Vec<&str> = path.iter().map(|(_, value)| value).collect();
    if let Some(last) = parts.last_mut() {
        let target = last.strip_suffix(":predict");
        *last = target.ok_or_else(|| {
            Error::not_found(format!("{:?}: expected :predict at the end of the path", error::shown(last)))
                .hint("as in POST /v1/models/MODEL:predict")
        })?;
    }
    state.resolve(parts.first().copied(), parts.get(1).copied())
}

async fn compute(state: &State, model: &Handle, request: Request, started: Instant) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let terms = Terms::of(&parts.headers, started, state.request_timeout)?;
    if let Err(error) = terms.admit(model) {
        body::refuse(&parts.headers, body).await;
        return Err(error);
    }
    let body = body::read(&parts.headers, body, terms.deadline, &state.memory).await?;
    let (version, pool) = (model.version.clone(), state.memory.clone());
    let read = api::heavy(body.len(), move || request::read(&version.spec, &body, &pool)).await?;
    let request::Inputs { tensors, rows, form } = read?;
    let outputs = api::compute(model, tensors, rows, terms).await?;
    api::heavy(api::size(&outputs), move || answer::write(&outputs, rows, form)).await?
}
