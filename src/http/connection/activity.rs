//! What has happened on one connection, as its task and its requests share it, and the timer that asks the rules of
//! `moments`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::moments::{Farewell, Fault, Moments, Patience, SILENCE, Spoken};
use crate::api::in_flight::Cut;

/// The moments of one connection, shared.
#[derive(Clone)]
pub(super) struct Activity(Arc<Shared>);

struct Shared {
    moments: Mutex<Moments>,
    /// The first request has come.
    asked: Notify,
    /// No request is in flight any more.
    settled: Notify,
    cut: Cut,
}

impl Activity {
    /// Of a connection that was accepted now.
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            moments: Mutex::new(Moments::new(Instant::now())),
            asked: Notify::new(),
            settled: Notify::new(),
            cut: Cut::default(),
        }))
    }

    /// Held for some assignments, never across a wait.
    fn lock(&self) -> MutexGuard<'_, Moments> {
        self.0.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_read(&self, bytes: &[u8]) {
        self.lock().note_read(bytes, Instant::now());
    }

    pub(super) fn note_write(&self, bytes: usize) {
        self.lock().note_write(bytes, Instant::now());
    }

    pub(super) fn note_blocked(&self) {
        self.lock().note_owed(Instant::now(), |moments| moments.blocked = true);
    }

    /// A request's head is whole.
    pub(super) fn begin(&self) -> InFlight {
        let mut moments = self.lock();
        if !moments.asked {
            self.0.asked.notify_one();
        }
        moments.begin();
        drop(moments);
        InFlight { activity: self.clone(), unread: false }
    }

    pub(super) fn cut(&self) -> Cut {
        self.0.cut.clone()
    }

    /// The connection is about to be dropped with what is in flight on it.
    pub(super) fn note_cut(&self) {
        self.0.cut.happen();
    }

    /// Resolves when no request is in flight. For one waiter.
    pub(super) async fn settled(&self) {
        while self.lock().in_flight > 0 {
            self.0.settled.notified().await;
        }
    }

    /// Resolves once a request has come over HTTP/2. For one waiter.
    pub(super) async fn asked_over_http2(&self) {
        self.0.asked.notified().await;
        if !self.is_http2() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn is_http2(&self) -> bool {
        self.lock().spoken == Spoken::Http2
    }

    /// Whether there is anything to finish: a request came, or an HTTP/2 client that must be told where it ends.
    pub(super) fn deserves_a_farewell(&self) -> bool {
        let moments = self.lock();
        moments.asked || moments.spoken == Spoken::Http2
    }

    /// GOAWAY is to be said, where this is an HTTP/2 connection.
    pub(super) fn say_farewell(&self) {
        self.lock().farewell = Farewell::ToSay;
    }

    pub(super) fn note_farewell_said(&self) {
        self.lock().farewell = Farewell::Said(Instant::now());
    }

    /// Whether GOAWAY is to be said and is not.
    pub(super) fn owes_farewell(&self) -> bool {
        let moments = self.lock();
        moments.spoken == Spoken::Http2 && moments.farewell == Farewell::ToSay
    }

    /// How long a connection that is to be closed must be left alone first: a request may be on its way. HTTP/1 must have
    /// been silent for that long; HTTP/2 must have been told.
    pub(super) fn silence_left(&self) -> Option<Duration> {
        let moments = self.lock();
        let since = match (moments.spoken, moments.farewell) {
            (Spoken::Http2, Farewell::Said(said)) => said,
            (Spoken::Http2, _) => Instant::now(),
            _ => moments.byte,
        };
        SILENCE.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
    }

    /// Resolves when the connection's time is up. Cancel safe.
    pub(super) async fn overdue(&self, patience: &Patience) -> Fault {
        // What is due is due no sooner than the shortest time after it began: looked at that often, nothing is missed.
        self.wait_until_due(patience.shortest(), |moments| moments.due(patience)).await
    }

    /// The same for one that was told to leave, and be gone by `gone`.
    pub(super) async fn overstays(&self, patience: &Patience, gone: Instant) -> Fault {
        self.wait_until_due(SILENCE, |moments| moments.due_to_go(patience, gone)).await
    }

    /// The same while all are told to leave.
    pub(super) async fn holds_the_end(&self, patience: &Patience, gone: Instant) -> Fault {
        self.wait_until_due(SILENCE, |moments| moments.due_to_leave(patience, gone)).await
    }

    /// The timer is armed anew only when it fires, not with every byte.
    async fn wait_until_due(&self, look_again: Duration, due: impl Fn(&Moments) -> Option<(Instant, Fault)>) -> Fault {
        loop {
            let now = Instant::now();
            let next = match due(&self.lock()) {
                Some((at, fault)) if at <= now => return fault,
                Some((at, _)) => at.min(now + look_again),
                None => now + look_again,
            };
            tokio::time::sleep_until(next).await;
        }
    }
}

/// A request from its head to the end of its answer. Dropped, it is over.
pub(super) struct InFlight {
    activity: Activity,
    unread: bool,
}

impl InFlight {
    pub(super) fn is_http2(&self) -> bool {
        self.activity.is_http2()
    }

    /// Whether its client must read a part of the answer before the next is wanted.
    pub(super) fn set_unread(&mut self, unread: bool) {
        if self.unread == unread {
            return;
        }
        self.unread = unread;
        let mut moments = self.activity.lock();
        if unread {
            moments.note_owed(Instant::now(), |moments| moments.unread += 1);
        } else {
            moments.unread -= 1;
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.set_unread(false);
        self.activity.lock().end(Instant::now());
        self.activity.0.settled.notify_one();
    }
}
