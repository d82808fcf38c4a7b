//! `POST /predict`: a body to tensors (`parse`), tensors to the batch queue, outputs to JSON (`answer`).

mod answer;
pub(crate) mod parse;

use std::time::Instant;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::error::Error;
use super::openapi::{Bytes, Named, PREDICTION, Prediction, Wishes};
use super::target::{self, Path};
use super::{State, body};
use crate::api::{self, Terms, identity};
use crate::batch::Handle;

/// Outputs for one row or many.
///
/// Without a version the highest that serves answers, without a model the default one.
#[utoipa::path(post, path = "/predict/{model}/{version}", tag = PREDICTION, operation_id = "predict",
    params(Named, Wishes),
    request_body(content(
        (Asked = "application/json"), (Bytes = "application/x-npy"), (Bytes = "application/octet-stream"),
        (Asked = "application/x-www-form-urlencoded"))),
    responses((status = 200, body = Answer, headers(
            ("torchpod-model" = String, description = "Who answered"),
            ("torchpod-model-version" = String), ("torchpod-model-digest" = String))), Prediction))]
pub(super) async fn predict(state: State, path: Path, request: Request) -> Result<Response, Error> {
    let started = Instant::now();
    let model = target::resolve(&state, path)?;
    let ids = identity::of(request.extensions());
    let result = api::counted(&model, started, &ids, infer(&state, &model, request, started)).await;
    Ok(identity::stamp(&model, result.into_response()))
}

async fn infer(state: &State, model: &Handle, request: Request, started: Instant) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let terms = Terms::of(&parts.headers, started, state.request_timeout)?;
    let format = parse::Format::of(&parts.headers)?;
    if let Err(error) = terms.admit(model) {
        body::refuse(&parts.headers, body).await;
        return Err(error);
    }
    let body = body::read(&parts.headers, body, terms.deadline, &state.memory).await?;
    let (inputs, rows) = parse::tensors(&model.version, format, body, &state.memory).await?;
    let outputs = api::compute(model, inputs, rows, terms).await?;
    let version = model.version.clone();
    api::heavy(api::size(&outputs), move || answer::json(&version, &outputs)).await
}

/// What `parse` reads of JSON.
#[derive(ToSchema)]
#[schema(as = predict::Request)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it only describes")]
struct Asked {
    /// Nested arrays of numbers, a row or several; an object of such by name where the model has several inputs.
    inputs: Value,
}

/// What `answer` writes.
#[derive(ToSchema)]
#[schema(as = predict::Answer)]
#[expect(dead_code, reason = "it only describes")]
struct Answer {
    model: String,
    version: String,
    /// Nested arrays by name.
    outputs: Map<String, Value>,
    /// Each row's best label, where the model has labels.
    #[schema(required = false, nullable = false)]
    predictions: Option<Vec<Best>>,
}

#[derive(ToSchema)]
#[schema(as = predict::Best)]
#[expect(dead_code, reason = "it only describes")]
struct Best {
    label: String,
    /// Null where the model's number is none.
    score: Option<f64>,
}
