//! What wraps the handlers: the count of requests in flight, the limit on heads, the farewell to connections.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body::{Frame, SizeHint};

use super::connection::Cut;
use super::encoding::{self, Accepted};
use super::error::{Error, Kind};
use super::{MAX_HEAD, State};
use crate::api::Shared;
use crate::lifecycle::Phase;
use crate::lifecycle::drain::InFlight;

/// Keeps a request in the ledger until the last byte of its answer, encoded as its client accepts it, has been handed to
/// its connection.
pub(super) async fn count(state: State, request: Request, next: Next) -> Response {
    let in_flight = state.ledger.accept();
    let cut = request.extensions().get::<Cut>().cloned().unwrap_or_default();
    let response = encode(request, next).await;
    let refused = response.status() == StatusCode::SERVICE_UNAVAILABLE;
    response.map(|body| Body::new(Counted { body, in_flight: Some(in_flight), refused, cut }))
}

/// Answers as the client accepts it. [`count`] does this, too, since nothing may come between it and the connection.
pub(super) async fn encode(request: Request, next: Next) -> Response {
    let accepted = Accepted::of(request.headers());
    encoding::encoded(accepted, next.run(request).await).await
}

/// A body that tells the ledger how it ended.
struct Counted {
    body: Body,
    in_flight: Option<InFlight>,
    refused: bool,
    cut: Cut,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    /// Always false: hyper lets go of a body that says it has ended as soon as it is buffered, read or not. Asked for one
    /// more frame, it comes back only when its buffer has room again.
    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // Dropped before its end, or with its connection and unread, the client has left, which is what the ledger
        // assumes when nothing is said.
        let read = self.body.is_end_stream() && !self.cut.happened();
        if let Some(in_flight) = self.in_flight.take().filter(|_| read) {
            in_flight.answered(self.refused);
        }
    }
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
