//! What a test can break.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::Method;
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// For so long connections are refused; those that are open break.
    Unreachable(Duration),
    /// Every so manyeth write of an object that is there (PUT, PATCH) is answered with 409, and not done.
    Conflicts(usize),
    /// Watches that are open break, once.
    DroppedWatches,
    /// The same, and whoever goes on from a version that it was told before hears 410.
    Gone,
    /// Every answer comes so late.
    Slow(Duration),
}

pub(crate) struct Faults {
    now: Mutex<Now>,
    /// Tells the server of a change.
    pub(crate) changed: watch::Sender<()>,
    /// How often watches were dropped.
    pub(crate) drops: watch::Sender<usize>,
}

#[derive(Clone, Copy, Default)]
struct Now {
    unreachable: Option<Instant>,
    conflicts: Option<usize>,
    writes: usize,
    slow: Duration,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults { now: Mutex::default(), changed: watch::Sender::new(()), drops: watch::Sender::new(0) }
    }
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin(&self, fault: Fault) {
        let mut now = self.lock();
        match fault {
            Fault::Unreachable(time) => now.unreachable = Some(Instant::now() + time),
            Fault::Conflicts(every) => (now.conflicts, now.writes) = (Some(every), 0),
            Fault::Slow(time) => now.slow = time,
            Fault::DroppedWatches | Fault::Gone => self.drops.send_modify(|drops| *drops += 1),
        }
        drop(now);
        self.changed.send_replace(());
    }

    pub(super) fn heal(&self) {
        *self.lock() = Now::default();
        self.changed.send_replace(());
    }

    pub(super) fn delay(&self) -> Duration {
        self.lock().slow
    }

    /// How long nobody can reach it yet.
    pub(super) fn unreachable(&self) -> Option<Duration> {
        self.lock()
            .unreachable
            .map(|until| until.saturating_duration_since(Instant::now()))
            .filter(|time| !time.is_zero())
    }

    /// Counts a write of what is there, and says whether this one is refused.
    pub(super) fn refuses(&self, method: &Method) -> bool {
        if ![Method::PUT, Method::PATCH].contains(method) {
            return false;
        }
        let mut now = self.lock();
        let Some(every) = now.conflicts else { return false };
        now.writes += 1;
        now.writes.is_multiple_of(every)
    }
}
