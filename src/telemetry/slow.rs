//! Which slow requests are told of: at most one a second, so that a server whose requests are all slow can be read.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two that are told of.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Slow {
    /// From there on; `None` tells of none.
    limit: Option<Duration>,
    /// The first moment of the clock that `next` counts.
    since: Instant,
    /// When the next one may be told of, in milliseconds from `since` on.
    next: AtomicU64,
    skipped: AtomicU64,
}

impl Slow {
    pub fn new(limit: Option<Duration>) -> Self {
        Self { limit, since: Instant::now(), next: AtomicU64::new(0), skipped: AtomicU64::new(0) }
    }

    /// Whether one that took so long until `now` is told of: if so, how many were not since the last that was.
    pub fn tell(&self, took: Duration, now: Instant) -> Option<u64> {
        if took < self.limit? {
            return None;
        }
        let now = millis(now.saturating_duration_since(self.since));
        let next = self.next.load(Ordering::Relaxed);
        let turn = now >= next && {
            let after = now + millis(PAUSE);
            self.next.compare_exchange(next, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        if turn {
            return Some(self.skipped.swap(0, Ordering::Relaxed));
        }
        self.skipped.fetch_add(1, Ordering::Relaxed);
        None
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_slow_requests_is_told_of_and_the_next_one_says_how_many_were_not() {
        let slow = Slow::new(Some(Duration::from_millis(100)));
        let now = slow.since;
        assert_eq!(slow.tell(Duration::from_millis(99), now), None);
        let told = [100, 200, 300].map(|millis| slow.tell(Duration::from_millis(millis), now));
        assert_eq!(told, [Some(0), None, None]);
        assert_eq!(slow.tell(Duration::from_secs(1), now + PAUSE), Some(2));
    }

    #[test]
    fn nothing_is_slow_without_a_limit() {
        assert_eq!(Slow::new(None).tell(Duration::MAX, Instant::now()), None);
    }
}
