//! What wraps the handlers: encoding, the limit on heads, the farewell to connections.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderValue, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::MAX_HEAD;
use super::encoding::{self, Accepted};
use super::error::{Error, Kind};
use crate::api::Shared;
use crate::lifecycle::Phase;

/// Answers as the client accepts it. Whatever counts the request in flight goes around this: it must see the body that the
/// connection gets.
pub(super) async fn encode(request: Request, next: Next) -> Response {
    let accepted = Accepted::of(request.headers());
    encoding::encoded(accepted, next.run(request).await).await
}

/// Refuses heads above [`MAX_HEAD`]; hyper itself refuses those far above it, without a body.
pub(super) async fn limit_head(request: Request, next: Next) -> Response {
    // A header line is name, colon, space, value, CR and LF.
    let lines: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let bytes = lines + request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if bytes > MAX_HEAD {
        let message = format!("the request head has {bytes} bytes, expected at most {MAX_HEAD}");
        return Error::new(Kind::HeadTooLarge, message).into_response();
    }
    next.run(request).await
}

/// While draining, tells HTTP/1 clients to come back on another connection, that is, to another server.
pub(super) async fn send_off(state: axum::extract::State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let version = request.version();
    let mut response = next.run(request).await;
    if version <= Version::HTTP_11 && matches!(state.health.phase(), Phase::Draining { .. }) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
