//! `POST /predict`: a body to tensors (`parse`), tensors to the batch queue, outputs to JSON (`answer`).

mod answer;
mod parse;

use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::error::{Error, Kind};
use super::{MAX_BODY, State};
use crate::batch::{Call, Handle, Priority};
use crate::telemetry::metrics::{ModelMetrics, Outcome};

pub(super) async fn predict(state: State, request: Request) -> Result<Response, Error> {
    let started = Instant::now();
    let phase = state.health.phase();
    let model = state.models.get().filter(|_| phase.takes_requests()).ok_or_else(|| Error::not_ready(phase))?.default();
    let mut count = Count { metrics: &model.metrics, started, outcome: Outcome::Left };
    let result = infer(model, request, started + state.request_timeout).await;
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

async fn infer(model: &Handle, request: Request, deadline: Instant) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let format = parse::Format::of(&parts.headers)?;
    let body = read(&parts.headers, body, deadline).await?;
    let (inputs, rows) = parse::tensors(&model.version, format, body).await?;
    let outputs = model.infer(Call { inputs, rows, deadline, priority: Priority::Normal }).await?;
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
