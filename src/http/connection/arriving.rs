//! Requests' bodies on their way in, so that one that stands still cannot hold the end. Apart from `activity`, which is
//! of a connection: over HTTP/2, other requests on it are whole, and must be answered.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use hyper::Request;
use hyper::body::{Bytes, Incoming};
use tokio::time::Instant;

use super::moments::{Arrival, SILENCE};
use super::{Stage, Stages};

/// The request never came whole, and the server must end.
#[derive(Debug, thiserror::Error)]
#[error("the body was not whole in time, and the server must end")]
pub(super) struct NeverWhole;

/// What a request's body and whoever cuts it share.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Arrival>>);

impl Shared {
    /// Held for an assignment, never across a wait.
    fn lock(&self) -> MutexGuard<'_, Arrival> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `answer` resolves to, unless the server must end and the body has had its time.
    pub(super) async fn unless_never_whole<T>(
        self,
        mut answer: impl Future<Output = T> + Unpin,
        stages: Stages,
    ) -> Result<T, NeverWhole> {
        let mut overdue = pin!(self.overdue(stages));
        poll_fn(|cx| {
            // What has come by now is handled first.
            if let Poll::Ready(answer) = Pin::new(&mut answer).poll(cx) {
                return Poll::Ready(Ok(answer));
            }
            // Most bodies come with their heads: then there is nothing to wait for, and no timer to set.
            if self.lock().is_over() {
                return Poll::Pending;
            }
            overdue.as_mut().poll(cx).map(|()| Err(NeverWhole))
        })
        .await
    }

    /// Resolves when the server must end and the body has had its time. Cancel safe.
    async fn overdue(&self, mut stages: Stages) {
        stages.reach(Stage::Leave).await;
        let told = Instant::now();
        loop {
            let next = self.due(told);
            if next.is_some_and(|at| at <= Instant::now()) {
                // Where the runtime itself was late, bytes may have come that nobody has looked at.
                tokio::task::yield_now().await;
                if self.due(told).is_some_and(|at| at <= Instant::now()) {
                    return;
                }
            }
            let look_again = Instant::now() + SILENCE;
            tokio::time::sleep_until(next.map_or(look_again, |at| at.min(look_again))).await;
        }
    }

    fn due(&self, told: Instant) -> Option<Instant> {
        self.lock().due_to_leave(told)
    }
}

/// A request's body that notes when its handler waits for it.
pub(super) struct Arriving {
    body: Incoming,
    arrival: Shared,
}

impl Arriving {
    pub(super) fn request(request: Request<Incoming>) -> (Request<axum::body::Body>, Shared) {
        let arrival = Shared(Arc::default());
        (request.map(|body| axum::body::Body::new(Self { body, arrival: arrival.clone() })), arrival)
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let poll = Pin::new(&mut self.body).poll_frame(cx);
        self.arrival.lock().note_asked(poll.is_ready(), Instant::now());
        poll
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Arriving {
    /// Nobody waits for it any more.
    fn drop(&mut self) {
        self.arrival.lock().note_over();
    }
}
