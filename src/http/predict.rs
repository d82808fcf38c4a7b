//! `POST /predict`: a body to tensors (`parse`), tensors to the batch queue, outputs to JSON (`answer`).

mod answer;
pub(super) mod body;
mod parse;
mod terms;

use std::time::Instant;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use super::error::{self, Error, Kind};
use super::{Shared, State, identity, who_serves};
use crate::batch::{self, Call, Handle};
use crate::model::Spec;
use crate::telemetry::metrics::{ModelMetrics, Outcome};

pub(super) async fn predict(state: State, path: Path, request: Request) -> Result<Response, Error> {
    let started = Instant::now();
    // Held until the answer is there, so that a version that is replaced meanwhile finishes it.
    let model = resolve(&state, path)?;
    let id = identity::id_of(&request);
    let mut count = Count { metrics: &model.metrics, started, outcome: Outcome::Left };
    let result = infer(&state, &model, request, started).await;
    count.outcome = outcome(&result);
    if let Err(error) = &result
        && error.status() == StatusCode::INTERNAL_SERVER_ERROR
    {
        let request_id = id.as_ref().and_then(|id| id.to_str().ok());
        tracing::warn!(model = model.version.id(), request_id, error = error.message(), "request failed");
    }
    Ok(identity::stamp(&model, result.into_response()))
}

type Path = Result<RawPathParams, RawPathParamsRejection>;

/// The version that the path names.
fn resolve(state: &Shared, path: Path) -> Result<Handle, Error> {
    let phase = state.health.phase();
    if !phase.takes_requests() {
        return Err(Error::not_ready(phase));
    }
    let path = path.map_err(|_| Error::not_found("the model's name is no UTF-8"))?;
    let part = |name: &str| path.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    let (name, version) = (part("model"), part("version"));
    let found = match name {
        Some(name) => state.models.get(name, version),
        None => state.models.default(),
    };
    found.ok_or_else(|| unknown(state, name, version))
}

fn unknown(state: &Shared, name: Option<&str>, version: Option<&str>) -> Error {
    let serving = who_serves(state);
    match (name.map(error::shown), version.map(error::shown)) {
        (Some(name), Some(version)) => Error::not_found(format!("no version {version} of a model {name:?}; {serving}")),
        (Some(name), None) => Error::not_found(format!("no model {name:?}; {serving}")),
        (None, _) if state.models.now().is_empty() => Error::new(Kind::NotReady, "no model serves"),
        (None, _) => Error::not_found(format!("no default model; {serving}"))
            .hint("name one, as in POST /predict/MODEL, or start the server with --default-model"),
    }
}

/// Counts a request by its outcome when it ends, even if its client has left and nobody finishes handling it.
struct Count<'a> {
    metrics: &'a ModelMetrics,
    started: Instant,
    outcome: Outcome,
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.metrics.request(self.outcome, self.started.elapsed());
    }
}

async fn infer(state: &State, model: &Handle, request: Request, started: Instant) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let deadline = started + terms::timeout(&parts.headers, state.request_timeout)?;
    let priority = terms::priority(&parts.headers)?;
    let format = parse::Format::of(&parts.headers)?;
    // Whoever has no chance hears so before anything is spent on the body.
    if let Err(error) = model.admit(1, deadline, priority) {
        body::refuse(&parts.headers, body).await;
        return Err(error.into());
    }
    let body = body::read(&parts.headers, body, deadline, &state.memory).await?;
    let (inputs, rows) = parse::tensors(&model.version, format, body, &state.memory).await?;
    let outputs = model.infer(Call { inputs, rows, deadline, priority }).await;
    let outputs = outputs.map_err(|error| explained(error, &model.version.spec, rows))?;
    let bytes: usize = outputs.iter().map(|(_, tensor)| tensor.bytes.len()).sum();
    if bytes <= parse::INLINE {
        return Ok(answer::json(&model.version, &outputs));
    }
    let version = model.version.clone();
    tokio::task::spawn_blocking(move || answer::json(&version, &outputs))
        .await
        .map_err(|_| Error::new(Kind::ModelFailed, "the server failed to write the answer"))
}

/// What a model raises may come of taking a single row for many, where nothing told us how many dimensions a row has.
fn explained(error: batch::Error, spec: &Spec, rows: usize) -> Error {
    let is_guess = matches!(error, batch::Error::Failed(_)) && spec.inputs.iter().any(|port| port.dtype.is_none());
    let error = Error::from(error);
    if !is_guess {
        return error;
    }
    let s = if rows == 1 { "" } else { "s" };
    error.hint(format!(
        "nothing describes this model's inputs, so the first dimension was taken for {rows} row{s}; a model.toml or \
         --input describes them"
    ))
}

fn outcome(result: &Result<Response, Error>) -> Outcome {
    match result.as_ref().map_err(Error::status) {
        Ok(_) => Outcome::Ok,
        Err(status) if status.is_client_error() => Outcome::ClientError,
        Err(StatusCode::SERVICE_UNAVAILABLE) => Outcome::Refused,
        Err(StatusCode::GATEWAY_TIMEOUT) => Outcome::Deadline,
        Err(_) => Outcome::ServerError,
    }
}
