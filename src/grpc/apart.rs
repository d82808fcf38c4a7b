//! Large messages, and streams, on threads of their own.
//!
//! tonic decompresses, decodes and encodes where it is polled: tens of milliseconds for a list of millions, on a thread that
//! answers probes. Here the call as a whole runs elsewhere, and its answer comes back frame by frame.

use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::thread::available_parallelism;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use super::{arriving, status};
use crate::api::{self, Error, Kind, Shared};
use crate::batch::worker::NICENESS;

/// Never dropped: a runtime may not end within another. `None` where the system has no threads left.
static THREADS: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(available_parallelism().map_or(1, usize::from)).thread_name("large-messages").enable_all();
    // They are work, as models are, and leave the cores to probes.
    builder.on_thread_start(|| _ = rustix::process::nice(NICENESS));
    builder.build().ok()
});

type Piece = Result<Frame<Bytes>, axum::Error>;

/// Runs a call apart if its first message is large or compressed, or if it is a stream, whose messages nobody knows yet.
pub(super) async fn run(state: State<Arc<Shared>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if arriving::is_stream(&parts) {
        return apart(Request::from_parts(parts, body), next).await;
    }
    let body = Peeked::at(body).await;
    let (is_compressed, length) = body.announced().unwrap_or_default();
    let most = api::MAX_BODY.min(state.memory.limit());
    if length > most {
        let message = format!("the message has {length} bytes, expected at most {most}");
        return status::plain(Error::new(Kind::TooLarge, message).hint("send fewer rows a request")).into_http();
    }
    let request = Request::from_parts(parts, Body::new(body));
    if is_compressed || length > api::INLINE { apart(request, next).await } else { next.run(request).await }
}

async fn apart(request: Request, next: Next) -> Response {
    let Some(threads) = THREADS.as_ref() else { return next.run(request).await };
    let (head, begun) = oneshot::channel();
    let (pieces, coming) = mpsc::channel(1);
    let task = threads.spawn(async move {
        let (parts, mut body) = next.run(request).await.into_parts();
        // An error is a head without a body, and clients read it only from such.
        if head.send((parts, body.is_end_stream())).is_err() {
            return;
        }
        while let Some(piece) = body.frame().await {
            if pieces.send(piece).await.is_err() {
                return;
            }
        }
    });
    let task = AbortOnDropHandle::new(task);
    match begun.await {
        Ok((parts, true)) => Response::from_parts(parts, Body::empty()),
        Ok((parts, false)) => Response::from_parts(parts, Body::new(Answer { pieces: coming, _task: task })),
        Err(_) => Status::internal("the server failed on this request").into_http(),
    }
}

/// An answer that is made elsewhere for as long as somebody wants it.
struct Answer {
    pieces: mpsc::Receiver<Piece>,
    _task: AbortOnDropHandle<()>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        self.pieces.poll_recv(cx)
    }
}

/// A body whose first frame has been looked at.
struct Peeked {
    first: Option<Piece>,
    rest: Body,
}

impl Peeked {
    async fn at(mut rest: Body) -> Self {
        let first = rest.frame().await;
        Self { first, rest }
    }

    /// What the five bytes before a message say: whether it is compressed, and its length. Where they come one by one,
    /// nobody knows, and it is taken for compressed.
    fn announced(&self) -> Option<(bool, usize)> {
        let data = self.first.as_ref()?.as_ref().ok()?.data_ref()?;
        let [flag, a, b, c, d] = *data.first_chunk().unwrap_or(&[1, 0, 0, 0, 0]);
        Some((flag != 0, u32::from_be_bytes([a, b, c, d]) as usize))
    }
}

impl HttpBody for Peeked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.first.is_none() { self.rest.size_hint() } else { SizeHint::default() }
    }
}
