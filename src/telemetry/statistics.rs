//! Sums that the inference protocol's statistics tell: counts and times since the version was first loaded.
//!
//! Apart from the metrics since those cannot be read back: an exporter has their only copy. The console reads them, too.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::metrics::Outcome;
use super::spread::Spread;

/// How often something happened, and how long it took in sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    pub count: u64,
    pub nanos: u64,
}

/// What happened up to now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// When the last request ended, in milliseconds since 1970; 0 before the first.
    pub last_inference_millis: u64,
    /// Rows that were computed.
    pub rows: u64,
    /// Requests that were answered with outputs, from head to answer.
    pub success: Timing,
    /// The same by how long they took: the time that a bucket ends at, and how many are in it.
    pub spread: Vec<(Duration, u64)>,
    /// Requests that were not, whatever the reason; not those whose client has left.
    pub fail: Timing,
    /// Waiting for a batch, of every part of a request that was cut.
    pub queue: Timing,
    /// Gathering and computing, of every batch.
    pub compute: Timing,
    /// The same by the batch's size, in rows.
    pub by_rows: BTreeMap<usize, Timing>,
}

/// Where it is summed up.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    last_inference_millis: AtomicU64,
    rows: AtomicU64,
    success: Sum,
    spread: Spread,
    fail: Sum,
    queue: Sum,
    compute: Sum,
    /// Locked once a batch, and by whoever asks.
    by_rows: Mutex<BTreeMap<usize, Timing>>,
}

#[derive(Debug, Default)]
struct Sum {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Sum {
    fn add(&self, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos(took), Ordering::Relaxed);
    }

    fn read(&self) -> Timing {
        Timing { count: self.count.load(Ordering::Relaxed), nanos: self.nanos.load(Ordering::Relaxed) }
    }
}

fn nanos(took: Duration) -> u64 {
    u64::try_from(took.as_nanos()).unwrap_or(u64::MAX)
}

impl Statistics {
    pub(super) fn request(&self, outcome: Outcome, took: Duration) {
        match outcome {
            Outcome::Ok => {
                self.success.add(took);
                self.spread.add(took);
            }
            Outcome::Left => return,
            _ => self.fail.add(took),
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_inference_millis.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn queued(&self, waited: Duration) {
        self.queue.add(waited);
    }

    pub(super) fn batch(&self, rows: usize, took: Duration) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        self.compute.add(took);
        let mut by_rows = self.by_rows.lock().unwrap_or_else(PoisonError::into_inner);
        let timing = by_rows.entry(rows).or_default();
        timing.count += 1;
        timing.nanos += nanos(took);
    }

    pub(super) fn read(&self) -> Snapshot {
        Snapshot {
            last_inference_millis: self.last_inference_millis.load(Ordering::Relaxed),
            rows: self.rows.load(Ordering::Relaxed),
            success: self.success.read(),
            spread: self.spread.read(),
            fail: self.fail.read(),
            queue: self.queue.read(),
            compute: self.compute.read(),
            by_rows: self.by_rows.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_summed_up_and_who_left_is_neither_success_nor_failure() {
        let statistics = Statistics::default();
        assert_eq!(statistics.read(), Snapshot::default());
        let step = Duration::from_nanos(10);
        for outcome in [Outcome::Ok, Outcome::Ok, Outcome::Refused, Outcome::Left] {
            statistics.request(outcome, step);
        }
        statistics.queued(step);
        for rows in [1, 4, 4] {
            statistics.batch(rows, step);
        }
        let read = statistics.read();
        let timing = |count| Timing { count, nanos: 10 * count };
        assert_eq!((read.success, read.fail, read.queue, read.compute), (timing(2), timing(1), timing(1), timing(3)));
        assert_eq!(read.spread.iter().map(|(_, count)| count).sum::<u64>(), 2);
        assert_eq!((read.rows, read.by_rows), (9, BTreeMap::from([(1, timing(1)), (4, timing(2))])));
        assert!(read.last_inference_millis > 1_600_000_000_000);
    }
}
