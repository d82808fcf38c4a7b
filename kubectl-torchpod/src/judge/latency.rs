//! The 99th percentile by buckets, and where tails are compared.

use super::tally::{Share, Sums};

/// Of the slowest hundredth.
pub(super) const TAIL: f64 = 0.01;

/// A bound that both tracks have, in seconds, with what was slower than it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    pub(super) seconds: f64,
    pub(super) canary: Share,
    pub(super) stable: Share,
}

/// Servers of two releases may have different buckets.
#[allow(clippy::cast_precision_loss)] // Nobody waits 2⁵³ ns, 104 days.
pub(super) fn common(canary: &Sums, stable: &Sums) -> Vec<Bound> {
    let bounds = stable.slower.iter().filter_map(|(nanos, stable)| {
        let canary = canary.slower.get(nanos)?;
        Some(Bound { seconds: *nanos as f64 / 1e9, canary: *canary, stable: *stable })
    });
    bounds.collect()
}

/// The first bound that few of stable's requests are slower than: two hundredths at most, so that it lies next to the
/// 99th percentile or beyond it. Where more of them are slower than the last one, that.
pub(super) fn tail(bounds: &[Bound]) -> Option<Bound> {
    let is_tail = |bound: &&Bound| bound.stable.share() <= 2.0 * TAIL;
    bounds.iter().find(is_tail).or(bounds.last()).copied()
}

/// The 99th percentile in seconds. `slower` are bounds with the count of those that took longer, of `of`. Between two
/// bounds the share that is slower falls as a power of the time does: straight lines, as `histogram_quantile` draws,
/// put a tail's end too far out, by a third where buckets double.
#[allow(clippy::cast_precision_loss)] // Nobody has 2⁵³ requests.
pub(super) fn p99(slower: impl IntoIterator<Item = (f64, u64)>, of: u64) -> Option<f64> {
    let of = of as f64;
    let mut last: Option<(f64, f64)> = None;
    for (seconds, count) in slower {
        // Of nothing at all there may be half a request.
        let share = (count as f64).max(0.5) / of;
        if share <= TAIL {
            let Some((before, share_before)) = last else { return Some(seconds) };
            let part = (share_before / TAIL).ln() / (share_before / share).ln();
            return Some(before * (seconds / before).powf(part));
        }
        // Of fewer than fifty requests half a one is more than a hundredth: all were faster than this, and that is all.
        if count == 0 {
            return Some(seconds);
        }
        last = Some((seconds, share));
    }
    // Beyond the last bound.
    last.map(|(seconds, _)| seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_lies_between_two_bounds_where_the_tail_falls_to_a_hundredth() {
        let table = [
            // Of 10 000, 1000 and 10: halfway in both logarithms.
            (vec![(0.01, 1000), (0.1, 10)], 0.031_6),
            (vec![(0.01, 100), (0.1, 10)], 0.01),
            (vec![(0.01, 1000), (0.1, 100)], 0.1),
            // Half a request of 10 000 beyond the last.
            (vec![(0.01, 200), (0.02, 0)], 0.010_8),
            (vec![(0.01, 0), (0.02, 0)], 0.01),
            (vec![(0.01, 9000), (0.02, 8000)], 0.02),
        ];
        for (slower, expected) in table {
            let found = p99(slower.clone(), 10_000).unwrap();
            assert!((found / expected - 1.0).abs() < 0.01, "{slower:?}: {found}, not {expected}");
        }
        assert_eq!(p99([], 10_000), None);
        assert_eq!(
            p99([(0.01, 39), (0.1, 0), (30.0, 0)], 39),
            Some(0.1),
            "too few for a hundredth, and none was slower"
        );
    }
}
