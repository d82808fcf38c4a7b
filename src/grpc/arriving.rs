//! Messages while they arrive: their bytes count against what all requests may hold, and they must come in time.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;

use super::status;
use crate::api::{Error, Kind, Shared};
use crate::tensor::pool::{Charge, Pool};

/// The one call whose client may be silent for as long as it likes.
const STREAM: &str = "/ModelStreamInfer";

/// What a request's handler finds in its extensions.
#[derive(Clone)]
pub(super) struct Arriving {
    /// When its head came.
    pub(super) started: Instant,
    /// What it holds of the pool until its message has been made into tensors.
    held: Arc<Mutex<Vec<Charge>>>,
}

impl Arriving {
    /// The last message has been taken over.
    pub(super) fn clear(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

pub(super) fn is_stream(request: &Parts) -> bool {
    request.uri.path().ends_with(STREAM)
}

pub(super) async fn watch(state: State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let is_stream = is_stream(&parts);
    let arriving = Arriving { started: Instant::now(), held: Arc::default() };
    let body = Counted {
        body,
        pool: state.memory.clone(),
        late: (!is_stream).then(|| Box::pin(tokio::time::sleep(state.request_timeout))),
        limit: state.request_timeout,
        arriving: arriving.clone(),
    };
    let mut request = Request::from_parts(parts, Body::new(body));
    request.extensions_mut().insert(arriving);
    next.run(request).await
}

/// A body whose bytes are counted as they come.
struct Counted {
    body: Body,
    pool: Pool,
    /// When it is too late, unless it may last.
    late: Option<Pin<Box<Sleep>>>,
    limit: Duration,
    arriving: Arriving,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            let is_late = self.late.as_mut().is_some_and(|late| late.as_mut().poll(cx).is_ready());
            let message = format!("the message did not arrive within {:?}", self.limit);
            let late = || status::plain(Error::new(Kind::BodyTimeout, message));
            return if is_late { Poll::Ready(Some(Err(late()))) } else { Poll::Pending };
        };
        let counted = frame.map(|frame| {
            let frame = frame.map_err(|error| Status::cancelled(format!("the message broke off: {error}")))?;
            if let Some(data) = frame.data_ref() {
                let charge = self.pool.charge(data.len()).map_err(|full| status::plain(full.into()))?;
                self.arriving.held.lock().unwrap_or_else(PoisonError::into_inner).push(charge);
            }
            Ok(frame)
        });
        Poll::Ready(counted)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
