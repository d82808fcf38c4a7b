//! `POST /predict`: a body to tensors (`parse`), tensors to the batch queue, outputs to JSON (`answer`).

mod answer;
pub(super) mod parse;

use std::time::Instant;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};

use super::error::Error;
use super::target::{self, Path};
use super::{State, body};
use crate::api::{self, Terms, identity};
use crate::batch::Handle;

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
