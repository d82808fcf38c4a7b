//! `/v1`: version 1 of `KServe`'s protocol, which is `TensorFlow` Serving's. `request` reads rows or columns, and `answer`
//! gives back what came: a prediction for each row, or outputs as columns.

mod answer;
pub(crate) mod request;
mod rows;
mod schema;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::error::{self, Error, Flat};
use super::front::Asked;
use super::openapi::{FIRST_PROTOCOL, Inference, Named, Unknown, Wishes};
use super::target::{self, Path};
use super::{State, body};
use crate::api::{self, Count, Protocol, Shared, Terms, identity};
use crate::batch::Handle;
use crate::health::Probe;

/// But for the predictions, which `front` hands to [`predict`].
pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", get(model))
        .route("/v1/models/{model}/versions/{version}", get(model))
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
    let ready = state.health.passes(Probe::Liveness);
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
pub(super) async fn predict(shared: &Shared, asked: Asked<'_>, body: Body) -> Result<Response, Flat> {
    let model = asked.target.before(":predict")?.resolve(shared)?;
    let mut count = Count::new(shared, &model, Protocol::V1, asked.ids, asked.started);
    let result = compute(shared, &model, &asked, body, &mut count).await;
    count.end(&result);
    Ok(identity::stamp(&model, result.map_err(Flat).into_response()))
}

async fn compute(
    shared: &Shared,
    model: &Handle,
    asked: &Asked<'_>,
    body: Body,
    count: &mut Count<'_>,
) -> Result<Response, Error> {
    let terms = Terms::of(asked.headers, asked.started, shared.request_timeout)?;
    let body = body::of_prediction(shared, model, asked, terms, body, count).await?;
    let (version, pool) = (model.version.clone(), shared.memory.clone());
    let read = api::heavy(body.len(), move || request::read(&version.spec, &body, &pool)).await?;
    let request::Inputs { tensors, rows, form } = read?;
    let outputs = api::compute(model, tensors, rows, terms, count).await?;
    api::heavy(api::size(&outputs), move || answer::write(&outputs, rows, form)).await?
}
