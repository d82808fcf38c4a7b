//! What has happened on one connection, and from that alone: when its time is up.
//!
//! The rules are pure functions of [`Moments`], tested as tables; [`Activity`] is what the connection's task and its
//! requests share of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// While draining, a connection must have been silent this long before it is closed: a request may be on its way.
pub(super) const SILENCE: Duration = Duration::from_millis(500);

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection may take for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a head, from its first byte, and for a newcomer's from its accept.
    pub(super) head: Duration,
    /// For doing nothing between requests.
    pub(super) idle: Duration,
    /// For reading the next byte of an answer.
    pub(super) write: Duration,
}

impl Patience {
    pub(super) fn shortest(&self) -> Duration {
        self.head.min(self.idle).min(self.write)
    }
}

/// Why a connection's time is up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    SlowHead,
    NeverReads,
    Idle,
    /// It was told to leave, has nothing in flight, and is still there.
    Overstays,
}

/// The version that a connection's first bytes announce.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Spoken {
    /// So many bytes of HTTP/2's preface, and nothing else.
    Preface(usize),
    Http1,
    Http2,
}

/// What has happened, and when. HTTP/2 has no `head`: what it carries between requests may be anything.
#[derive(Clone, Debug)]
struct Moments {
    spoken: Spoken,
    asked: bool,
    /// The last byte in either direction.
    byte: Instant,
    /// The first byte of a head that is not whole yet.
    head: Option<Instant>,
    /// Requests between their head and the end of their answer.
    in_flight: usize,
    /// Since when none has been in flight.
    idle: Instant,
    /// Answers that have given a part of themselves and were not asked for the next: their client must read first.
    unread: usize,
    /// Whether the socket takes no more.
    blocked: bool,
    /// The last byte written, or the moment when a client began to owe its reading.
    progress: Instant,
}

impl Moments {
    fn new(now: Instant) -> Self {
        Self {
            spoken: Spoken::Preface(0),
            asked: false,
            byte: now,
            head: Some(now),
            in_flight: 0,
            idle: now,
            unread: 0,
            blocked: false,
            progress: now,
        }
    }

    /// When the time of a connection is up if nothing happens on it until then. `None` while it is the server's turn.
    fn due(&self, patience: &Patience) -> Option<(Instant, Fault)> {
        if self.owes_reading() {
            return Some((self.progress + patience.write, Fault::NeverReads));
        }
        if self.in_flight > 0 {
            return None;
        }
        Some(match self.head {
            Some(begun) => (begun + patience.head, Fault::SlowHead),
            None => (self.idle + patience.idle, Fault::Idle),
        })
    }

    /// The same for one that was told to leave, and be gone by `gone`: only a request in flight may keep it, and for
    /// a moment more the end of its answer.
    fn due_to_leave(&self, patience: &Patience, gone: Instant) -> Option<(Instant, Fault)> {
        match self.due(patience) {
            None | Some((_, Fault::NeverReads)) => self.due(patience),
            Some(_) if self.asked => Some((gone.max(self.idle + SILENCE), Fault::Overstays)),
            Some(_) => Some((gone, Fault::Overstays)),
        }
    }

    fn owes_reading(&self) -> bool {
        self.unread > 0 || self.blocked
    }

    fn note_read(&mut self, bytes: &[u8], now: Instant) {
        self.byte = now;
        if let Spoken::Preface(known) = self.spoken {
            let rest = &PREFACE[known..];
            let compared = rest.len().min(bytes.len());
            self.spoken = match known + compared {
                _ if rest[..compared] != bytes[..compared] => Spoken::Http1,
                whole if whole == PREFACE.len() => Spoken::Http2,
                part => Spoken::Preface(part),
            };
            if self.spoken == Spoken::Http2 {
                (self.head, self.idle) = (None, now);
            }
        }
        if self.spoken != Spoken::Http2 && self.in_flight == 0 {
            self.head.get_or_insert(now);
        }
    }

    fn note_write(&mut self, bytes: usize, now: Instant) {
        self.blocked = false;
        if bytes > 0 {
            (self.byte, self.progress) = (now, now);
        }
    }

    /// Notes a change after which the client may owe its reading; if it did not before, its time begins now.
    fn note_owed(&mut self, now: Instant, change: impl FnOnce(&mut Self)) {
        let owed = self.owes_reading();
        change(self);
        if !owed {
            self.progress = now;
        }
    }
}

/// The moments of one connection, shared.
#[derive(Clone)]
pub(super) struct Activity(Arc<Shared>);

struct Shared {
    moments: Mutex<Moments>,
    /// The first request has come.
    asked: Notify,
}

impl Activity {
    /// Of a connection that was accepted now.
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared { moments: Mutex::new(Moments::new(Instant::now())), asked: Notify::new() }))
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
        moments.head = None;
        moments.in_flight += 1;
        if !std::mem::replace(&mut moments.asked, true) {
            self.0.asked.notify_one();
        }
        drop(moments);
        InFlight { activity: self.clone(), unread: false }
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

    /// How long an HTTP/1 connection must still be silent before it may be closed. HTTP/2 need not.
    pub(super) fn silence_left(&self) -> Option<Duration> {
        let moments = self.lock();
        let left = SILENCE.saturating_sub(moments.byte.elapsed());
        (moments.spoken != Spoken::Http2 && !left.is_zero()).then_some(left)
    }

    /// Resolves when the connection's time is up. Cancel safe.
    pub(super) async fn overdue(&self, patience: &Patience) -> Fault {
        // What is due is due no sooner than the shortest time after it began: looked at that often, nothing is missed.
        self.up(patience.shortest(), |moments| moments.due(patience)).await
    }

    /// The same for one that was told to leave, and be gone by `gone`.
    pub(super) async fn overstays(&self, patience: &Patience, gone: Instant) -> Fault {
        self.up(SILENCE, |moments| moments.due_to_leave(patience, gone)).await
    }

    /// The timer is armed anew only when it fires, not with every byte.
    async fn up(&self, look_again: Duration, due: impl Fn(&Moments) -> Option<(Instant, Fault)>) -> Fault {
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
        let mut moments = self.activity.lock();
        moments.in_flight -= 1;
        moments.idle = Instant::now();
    }
}
