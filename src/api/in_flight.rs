//! How long a request is in flight: from its head until the last byte of its answer has been handed to its connection.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};

use super::Shared;
use crate::lifecycle::drain::InFlight;

/// Whether a connection was cut, and with it whatever of its answers its client had not read.
#[derive(Clone, Default)]
pub struct Cut(Arc<AtomicBool>);

impl Cut {
    pub fn happen(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn happened(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Keeps a request in the ledger until the last byte of its answer has been handed to its connection, which its extensions
/// name by their [`Cut`].
pub async fn count(state: State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let cut = request.extensions().get::<Cut>().cloned().unwrap_or_default();
    let in_flight = state.ledger.accept();
    counted(in_flight, cut, next.run(request).await)
}

/// An answer whose request is `in_flight` until its last byte has been handed to the connection that may be `cut`.
pub fn counted(in_flight: InFlight, cut: Cut, response: Response) -> Response {
    let refused = response.status() == StatusCode::SERVICE_UNAVAILABLE || is_unavailable(response.headers());
    // Such as an error of gRPC, whose head must say that nothing follows.
    if response.body().is_end_stream() {
        in_flight.answered(refused);
        return response;
    }
    response.map(|body| Body::new(Counted { body, in_flight: Some(in_flight), refused, cut }))
}

/// gRPC's 503, where there is nothing but an error.
fn is_unavailable(headers: &HeaderMap) -> bool {
    const UNAVAILABLE: &[u8] = b"14";
    headers.get("grpc-status").is_some_and(|status| status.as_bytes() == UNAVAILABLE)
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
