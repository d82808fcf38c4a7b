//! How a worker waits while it has nothing to compute: asleep, or awake where the next request comes too soon for that.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::{Guard, Queue};

/// A worker that has rested no longer than this stays awake for as long when it rests again, where requests come one by
/// one: so quickly, then, that to sleep and be woken would take a good part of the time between two. Two wake-ups and cold
/// caches are a third of what a request to a small model takes. Requests that come together share a wake-up.
pub(super) const ALERT: Duration = Duration::from_micros(150);

/// How long a worker stays awake for the next request, with so many cores to run on, or so much CPU time as they have. One
/// core is wanted by those who read requests; and a limit of one is used up by a worker that stays awake, so that all stand
/// still until the next period of the limit.
pub(super) const fn alertness(cores: usize) -> Duration {
    if cores > 1 { ALERT } else { Duration::ZERO }
}

impl Queue {
    /// Waits for an arrival, for at most so long.
    pub(super) fn rest<'a>(&'a self, mut open: Guard<'a>, time: Option<Duration>) -> Guard<'a> {
        let count = |open: &mut Guard<'_>, change: isize| {
            if let Some(state) = open.as_mut() {
                state.idle = state.idle.saturating_add_signed(change);
            }
        };
        let began = Instant::now();
        let stays_awake = open.as_ref().is_some_and(|state| state.was_alone && state.last_rest < self.alert);
        count(&mut open, 1);
        open = match time {
            None if stays_awake => self.stay_alert(open, began),
            None => self.arrived.wait(open).unwrap_or_else(PoisonError::into_inner),
            Some(time) => self.arrived.wait_timeout(open, time).unwrap_or_else(PoisonError::into_inner).0,
        };
        count(&mut open, -1);
        if let Some(state) = open.as_mut() {
            state.last_rest = began.elapsed();
            state.is_called = false;
        }
        open
    }

    /// Waits for an arrival, at first without sleeping.
    fn stay_alert<'a>(&'a self, open: Guard<'a>, began: Instant) -> Guard<'a> {
        let seen = self.news.load(Ordering::Relaxed);
        drop(open);
        while self.news.load(Ordering::Relaxed) == seen && began.elapsed() < self.alert {
            // Whoever needs this core more shall have it: the arrival may have to be read on it.
            thread::yield_now();
        }
        let open = self.lock();
        if self.news.load(Ordering::Relaxed) != seen {
            return open;
        }
        self.arrived.wait(open).unwrap_or_else(PoisonError::into_inner)
    }
}
