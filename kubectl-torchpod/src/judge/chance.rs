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
