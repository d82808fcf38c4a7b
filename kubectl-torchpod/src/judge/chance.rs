//! The test, and how many requests it needs.

use statrs::distribution::{Binomial, DiscreteCDF};
use statrs::function::beta::beta_reg;

/// A count of so many requests. Not whole where it was divided by a design effect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) count: f64,
    pub(super) of: f64,
}

impl Sample {
    /// What it would be worth if its requests were independent.
    pub(super) fn per(self, spread: f64) -> Sample {
        Sample { count: self.count / spread, of: self.of / spread }
    }

    pub(super) fn share(self) -> f64 {
        if self.of > 0.0 { self.count / self.of } else { 0.0 }
    }
}

/// The probability of at least the canary's count if both tracks were the same: of all that was counted, each fell to
/// the canary with its share of the requests. Exact for rare events, however few, and too cautious for frequent ones
/// (Przyborowski and Wilenski, Biometrika 31, 1940). More in the canary never makes it larger.
pub(super) fn by_chance(canary: Sample, stable: Sample) -> f64 {
    if canary.count <= 0.0 || canary.of <= 0.0 || stable.of <= 0.0 {
        return 1.0;
    }
    beta_reg(canary.count, stable.count + 1.0, canary.of / (canary.of + stable.of))
}

/// What a test must see, and how well.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    /// A result as improbable as this, or more, counts as seen.
    pub(super) level: f64,
    /// So much more in the canary's share must be seen…
    pub(super) increase: f64,
    /// …and no increase up to this counts at all.
    pub(super) slack: f64,
    /// …so often.
    pub(super) power: f64,
    pub(super) spread: f64,
    /// Which part of the canary's count is left once its worst slices are taken out.
    pub(super) kept: f64,
    /// Whether stable gets more requests while the canary does.
    pub(super) grows: bool,
}

const MOST: f64 = 1e8;

impl Demand {
    /// How many requests the canary needs in all, at least as many as it has; none where stable's are too few for
    /// any number.
    pub(super) fn requests(&self, has: f64, stable: Sample) -> Option<f64> {
        let mut requests = has.max(1.0);
        while requests < MOST {
            let factor = if self.grows { requests / has.max(1.0) } else { 1.0 };
            let stable = Sample { count: stable.count * factor, of: stable.of * factor };
            if self.sees(requests, stable) {
                return Some(requests);
            }
            requests = (requests * 1.05).ceil();
        }
        None
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Positive, and below 2⁵³.
    fn sees(&self, requests: f64, stable: Sample) -> bool {
        let of = (requests / self.spread).floor();
        let share = (stable.share() + self.increase).min(1.0);
        let needed = self.least(of, stable.per(self.spread));
        let needed = (needed / self.kept).ceil();
        if of < needed || of < 1.0 {
            return false;
        }
        let count = Binomial::new(share, of as u64);
        count.is_ok_and(|count| count.sf(needed as u64 - 1) >= self.power)
    }

    /// The least count of `of` that is seen.
    fn least(&self, of: f64, stable: Sample) -> f64 {
        let mut above = ((stable.share() + self.slack) * of).floor().max(0.0);
        let mut seen = of + 1.0;
        while seen - above > 1.0 {
            let middle = f64::midpoint(above, seen).floor();
            if by_chance(Sample { count: middle, of }, stable) <= self.level {
                seen = middle;
            } else {
                above = middle;
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn of(count: f64, of: f64) -> Sample {
        Sample { count, of }
    }

    /// At least `least` of `all` fall to someone to whom each falls with `probability`.
    fn at_least(least: u32, all: u32, probability: f64) -> f64 {
        let ways = |k: u32| (0..k).fold(1.0, |ways, i| ways * f64::from(all - i) / f64::from(i + 1));
        let exactly = |k: u32| ways(k) * probability.powf(f64::from(k)) * (1.0 - probability).powf(f64::from(all - k));
        (least..=all).map(exactly).sum()
    }

    #[test]
    fn chance_is_the_probability_that_so_many_of_all_fell_to_the_canary() {
        for (ours, theirs, part) in [(1, 0, 0.1), (3, 3, 0.5), (12, 3, 0.1), (2, 40, 0.1), (9, 0, 0.9), (1, 300, 0.02)]
        {
            let whole = 2400.0;
            let (canary, stable) = (of(f64::from(ours), whole * part), of(f64::from(theirs), whole * (1.0 - part)));
            let expected = at_least(ours, ours + theirs, part);
            let chance = by_chance(canary, stable);
            assert!((chance - expected).abs() <= 1e-9 * expected, "{ours} beside {theirs}: {chance}, not {expected}");
        }
    }

    #[test]
    fn nothing_counted_or_nothing_to_compare_with_is_always_chance() {
        for (canary, stable) in
            [(of(0.0, 9.0), of(5.0, 9.0)), (of(5.0, 9.0), of(0.0, 0.0)), (of(0.0, 0.0), of(1.0, 9.0))]
        {
            assert!(by_chance(canary, stable) >= 1.0, "{canary:?}, {stable:?}");
        }
    }

    fn demand() -> Demand {
        Demand { level: 1e-3, increase: 0.05, slack: 0.01, power: 0.99, spread: 1.0, kept: 1.0, grows: true }
    }

    #[test]
    fn fewer_requests_are_needed_the_clearer_things_are() {
        let needed = |demand: Demand, stable| demand.requests(1.0, stable).unwrap();
        let (even, clean) = (demand(), of(0.0, 9.0));
        let usual = needed(even, clean);
        assert!((150.0..300.0).contains(&usual), "{usual}");
        assert!(needed(Demand { level: 1e-6, ..even }, clean) > usual, "a stricter level");
        assert!(needed(Demand { spread: 4.0, ..even }, clean) > 3.0 * usual, "uneven requests");
        assert!(needed(Demand { power: 0.5, ..even }, clean) < usual, "half the power");
        assert!(needed(Demand { increase: 0.2, ..even }, clean) < usual, "a larger increase");
        assert!(needed(Demand { kept: 0.5, ..even }, clean) > usual, "half of them are not counted");
        assert!(needed(even, of(0.3, 9.0)) > usual, "a stable that fails, too");
        assert!(needed(even, of(0.0, 1.0)) > usual, "as many of stable as of the canary");
    }

    #[test]
    fn a_stable_that_gets_no_more_requests_may_have_had_too_few() {
        let ended = Demand { grows: false, ..demand() };
        assert_eq!(ended.requests(1.0, of(1.0, 20.0)), None);
        assert!(ended.requests(1.0, of(0.0, 2000.0)).is_some());
    }
}
