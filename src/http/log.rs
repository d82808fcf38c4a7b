//! `/log`: what is logged, and how that is changed while the server runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{self, Error, Kind};
use super::openapi::{NewFilter, SERVER};
use super::{State, body};
use crate::api::Shared;
use crate::api::trust::Trust;
use crate::telemetry;
use crate::tensor::pool::Pool;

/// The longest filter, in bytes, and how long it may take to come.
const BODY: (usize, Duration) = (4 << 10, Duration::from_secs(10));

#[derive(Serialize, ToSchema)]
#[schema(as = log::Log)]
struct Log {
    /// As for `RUST_LOG`, e.g. `info,torchpod::http=debug`.
    filter: String,
}

/// Whoever `trust` allows may change it.
pub(super) fn routes(trust: Trust) -> Router<Arc<Shared>> {
    let change = move |state: State, request: Request| change(state, trust, request);
    Router::new().route("/log", get(filter).put(change))
}

/// What is logged.
#[utoipa::path(get, path = "/log", tag = SERVER, operation_id = "log", responses((status = 200, body = Log)))]
pub(super) async fn filter() -> Response {
    error::json(StatusCode::OK, &Log { filter: telemetry::log::current() })
}

/// Changes what is logged, until the server ends.
#[utoipa::path(put, path = "/log", tag = SERVER, operation_id = "change_log", security(("control_token" = [])),
    request_body(content = String, content_type = "text/plain", example = "info,torchpod::http=debug"),
    responses((status = 200, body = Log), NewFilter))]
pub(super) async fn change(state: State, trust: Trust, request: Request) -> Result<Response, Error> {
    trust.allows(&state, request.headers(), "the log is changed")?;
    let (most, time) = BODY;
    let (parts, body) = request.into_parts();
    let bytes = body::read_up_to(most, &parts.headers, body, Instant::now() + time, &Pool::new(4 * most)).await?;
    let text = String::from_utf8_lossy(&bytes);
    let wrong = |expected: String| Error::new(Kind::BadInput, expected);
    let text = match text.trim() {
        "" => return Err(wrong("the body is empty, expected a filter such as info,torchpod::http=debug".to_owned())),
        text => text,
    };
    let new = telemetry::log::filter(text).map_err(wrong)?;
    let filter = new.to_string();
    // Before it is: afterwards, nobody may read it.
    tracing::warn!(filter, "the log is changed");
    telemetry::log::replace(new);
    Ok(error::json(StatusCode::OK, &Log { filter }))
}
