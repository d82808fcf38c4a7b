//! `POST /predict`: a body to tensors (`parse`), tensors to the batch queue, outputs to JSON (`answer`).

mod answer;
mod parse;

use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::error::{self, Error, Kind};
use super::{MAX_BODY, Shared, State, identity, who_serves};
use crate::batch::{Call, Handle};
use crate::telemetry::metrics::{ModelMetrics, Outcome};

pub(super) async fn predict(state: State, path: Path, request: Request) -> Result<Response, Error> {
    let started = Instant::now();
    // Held until the answer is there, so that a version that is replaced meanwhile finishes it.
    let model = resolve(&state, path)?;
    let id = identity::id_of(&request);
    let mut count = Count { metrics: &model.metrics, started, outcome: Outcome::Left };
    let result = infer(&model, request, started + state.request_timeout).await;
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

async fn infer(model: &Handle, request: Request, deadline: Instant) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let format = parse::Format::of(&parts.headers)?;
    let body = read(&parts.headers, body, deadline).await?;
    let (inputs, rows) = parse::tensors(&model.version, format, body).await?;
    let outputs = model.infer(Call { inputs, rows, deadline }).await?;
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

/// The whole body, within its limit and its time.
async fn read(headers: &HeaderMap, mut body: Body, deadline: Instant) -> Result<Bytes, Error> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    // With Expect, a client waits for a word before it sends; without, it hears an answer only once it has sent all.
    let waits = headers.contains_key(header::EXPECT);
    let read = async {
        if announced.is_some_and(|bytes| bytes > MAX_BODY as u64) {
            if !waits {
                discard(body).await;
            }
            return Err(too_large());
        }
        match Limited::new(&mut body, MAX_BODY).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                discard(body).await;
                Err(too_large())
            }
            Err(error) => Err(Error::bad_input(format!("the body broke off: {error}"))),
        }
    };
    tokio::time::timeout_at(deadline.into(), read)
        .await
        .unwrap_or_else(|_| Err(Error::new(Kind::BodyTimeout, "the body did not arrive before the request's deadline")))
}

fn too_large() -> Error {
    Error::new(Kind::TooLarge, format!("the body is larger than {MAX_BODY} bytes")).hint("send fewer rows a request")
}

/// Reads on for a moment, so that the answer is not lost to a client that is still sending.
pub(super) async fn discard(mut body: Body) {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);
    let _ = tokio::time::timeout(PATIENCE, async { while let Some(Ok(_)) = body.frame().await {} }).await;
}
