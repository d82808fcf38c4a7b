//! How long things took, counted finely enough that a percentile of the last seconds can be read from two looks.
//!
//! Apart from the histograms of `/metrics`, whose buckets are few and cannot be read back: here each is a fifth wider
//! than the one before, and counting is one addition.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Four buckets to each doubling of the time, from 8 µs to 34 s; what is shorter or longer is in the first or the last.
const FIRST: u32 = 13;
const DOUBLINGS: usize = 22;
const BUCKETS: usize = DOUBLINGS * 4;

/// Counts by how long it took.
#[derive(Debug)]
pub(super) struct Spread([AtomicU64; BUCKETS]);

impl Default for Spread {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl Spread {
    pub(super) fn add(&self, took: Duration) {
        self.0[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    /// The buckets that hold something: the time that each ends at, and how many are in it.
    pub(super) fn read(&self) -> Vec<(Duration, u64)> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed)).enumerate();
        counts.filter(|(_, count)| *count > 0).map(|(bucket, count)| (end(bucket), count)).collect()
    }
}

/// The highest bit says in which doubling a time is, the two below it in which quarter of that.
fn bucket(took: Duration) -> usize {
    let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1 << FIRST);
    let doubling = nanos.ilog2();
    let quarter = (nanos >> (doubling - 2)) & 3;
    let bucket = u64::from(doubling - FIRST) * 4 + quarter;
    usize::try_from(bucket).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// Where a bucket ends and the next one begins.
fn end(bucket: usize) -> Duration {
    let next = bucket as u64 + 1;
    Duration::from_nanos((4 + next % 4) << (u64::from(FIRST) - 2 + next / 4))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_out_of_bounds_counts_at_the_ends() {
        let spread = Spread::default();
        assert_eq!(spread.read(), []);
        for took in [Duration::ZERO, Duration::from_micros(1), Duration::from_hours(1), Duration::MAX] {
            spread.add(took);
        }
        assert_eq!(spread.read(), [(end(0), 2), (end(BUCKETS - 1), 2)]);
        assert_eq!(end(0), Duration::from_nanos(10_240));
        assert_eq!(end(BUCKETS - 1), Duration::from_nanos(1 << 35));
    }

    proptest! {
        #[test]
        fn a_time_is_within_its_bucket_and_at_most_a_quarter_below_its_end(nanos in (1_u64 << FIRST)..(1 << 35)) {
            let (took, bucket) = (Duration::from_nanos(nanos), bucket(Duration::from_nanos(nanos)));
            prop_assert!(took < end(bucket));
            prop_assert!(bucket == 0 || took >= end(bucket - 1));
            prop_assert!(took.as_secs_f64() >= end(bucket).as_secs_f64() * 0.799);
        }
    }
}
