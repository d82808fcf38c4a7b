//! `POST /predict`: a body to tensors (`parse`), tensors to the batch queue, outputs to JSON (`answer`).

mod answer;
pub(crate) mod parse;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::body;
use super::error::Error;
use super::front::Asked;
use super::openapi::{Bytes, Named, PREDICTION, Prediction, Wishes};
use crate::api::{self, Count, Protocol, Shared, Terms, identity};
use crate::batch::Handle;

/// Outputs for one row or many.
///
/// Without a version the highest that serves answers, without a model the default one.
#[utoipa::path(post, path = "/predict/{model}/{version}", tag = PREDICTION, operation_id = "predict",
    params(Named, Wishes),
    request_body(content(
        (Inputs = "application/json"), (Bytes = "application/x-npy"), (Bytes = "application/octet-stream"),
        (Inputs = "application/x-www-form-urlencoded"))),
    responses((status = 200, body = Answer, headers(
            ("torchpod-model" = String, description = "Who answered"),
            ("torchpod-model-version" = String), ("torchpod-model-digest" = String))), Prediction))]
pub(super) async fn predict(shared: &Shared, asked: Asked<'_>, body: Body) -> Result<Response, Error> {
    let model = asked.target.resolve(shared)?;
    let mut count = Count::new(shared, &model, Protocol::Predict, asked.ids, asked.started);
    let result = infer(shared, &model, &asked, body, &mut count).await;
    count.end(&result);
    Ok(identity::stamp(&model, result.into_response()))
}

async fn infer(
    shared: &Shared,
    model: &Handle,
    asked: &Asked<'_>,
    body: Body,
    count: &mut Count<'_>,
) -> Result<Response, Error> {
    let terms = Terms::of(asked.headers, asked.started, shared.request_timeout)?;
    let format = parse::Format::of(asked.headers)?;
    let body = body::of_prediction(shared, model, asked, terms, body, count).await?;
    let (inputs, rows) = parse::tensors(&model.version, format, body, &shared.memory).await?;
    let outputs = api::compute(model, inputs, rows, terms, count).await?;
    let version = model.version.clone();
    api::heavy(api::size(&outputs), move || answer::json(&version, &outputs)).await
}

/// What `parse` reads of JSON.
#[derive(ToSchema)]
#[schema(as = predict::Request)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "it only describes")]
struct Inputs {
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
