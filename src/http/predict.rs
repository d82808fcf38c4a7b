//! `POST /predict`: a body to tensors (`parse`), tensors to the batch queue, outputs to JSON (`answer`).

mod answer;
pub(super) mod body;
mod parse;
mod terms;

use std::time::Instant;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;

use super::State;
use super::error::{Error, Kind};
use crate::batch::{Call, Handle};
use crate::telemetry::metrics::{ModelMetrics, Outcome};

pub(super) async fn predict(state: State, request: Request) -> Result<Response, Error> {
    let started = Instant::now();
    let phase = state.health.phase();
    let model = state.models.get().filter(|_| phase.takes_requests()).ok_or_else(|| Error::not_ready(phase))?.default();
    let mut count = Count { metrics: &model.metrics, started, outcome: Outcome::Left };
    let result = infer(&state, model, request, started).await;
    count.outcome = outcome(&result);
    result
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
    let outputs = model.infer(Call { inputs, rows, deadline, priority }).await?;
    let bytes: usize = outputs.iter().map(|(_, tensor)| tensor.bytes.len()).sum();
    if bytes <= parse::INLINE {
        return Ok(answer::json(&model.version, &outputs));
    }
    let version = model.version.clone();
    tokio::task::spawn_blocking(move || answer::json(&version, &outputs))
        .await
        .map_err(|_| Error::new(Kind::ModelFailed, "the server failed to write the answer"))
}

fn outcome(result: &Result<Response, Error>) -> Outcome {
    match result.as_ref().map_err(Error::status) {
        Ok(_) => Outcome::Ok,
        Err(status) if status.is_client_error() => Outcome::ClientError,
        Err(StatusCode::SERVICE_UNAVAILABLE) => Outcome::Refused,
        Err(_) => Outcome::ServerError,
    }
}
