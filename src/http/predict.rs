//! `POST /predict`: a body to tensors (`parse`), tensors to the batch queue, outputs to JSON (`answer`).

mod answer;
pub(super) mod body;
mod parse;

use std::time::Instant;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::response::{IntoResponse as _, Response};

use super::error::{Error, Kind};
use super::{State, identity};
use crate::api::{self, Terms};
use crate::batch::Handle;

pub(super) async fn predict(state: State, path: Path, request: Request) -> Result<Response, Error> {
    let started = Instant::now();
    let path = path.map_err(|_| Error::not_found("the model's name is no UTF-8"))?;
    let part = |name: &str| path.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    let model = state.resolve(part("model"), part("version"))?;
    let id = identity::id_of(&request);
    let result = api::counted(&model, started, id.as_deref(), infer(&state, &model, request, started)).await;
    Ok(identity::stamp(&model, result.into_response()))
}

type Path = Result<RawPathParams, RawPathParamsRejection>;

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
    let bytes: usize = outputs.iter().map(|(_, tensor)| tensor.bytes.len()).sum();
    if bytes <= parse::INLINE {
        return Ok(answer::json(&model.version, &outputs));
    }
    let version = model.version.clone();
    tokio::task::spawn_blocking(move || answer::json(&version, &outputs))
        .await
        .map_err(|_| Error::new(Kind::ModelFailed, "the server failed to write the answer"))
}
