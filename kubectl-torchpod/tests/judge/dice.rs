//! Chance, from a seed.

use std::f64::consts::TAU;

pub(crate) struct Dice(fastrand::Rng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(fastrand::Rng::with_seed(seed))
    }

    pub(crate) fn happens(&mut self, probability: f64) -> bool {
        self.0.f64() < probability
    }

    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.0.f64()
    }

    /// Evenly between orders of magnitude.
    pub(crate) fn scale(&mut self, low: f64, high: f64) -> f64 {
        self.between(low.ln(), high.ln()).exp()
    }

    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.0.f64()).ln()).sqrt();
        radius * (TAU * self.0.f64()).cos()
    }

    /// Around 1; `spread` is the standard deviation of its logarithm.
    pub(crate) fn factor(&mut self, spread: f64) -> f64 {
        (spread * self.normal()).exp()
    }

    /// How many independent events there are where so many are expected.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Rounded, and never negative.
    pub(crate) fn count(&mut self, expected: f64) -> u64 {
        const MANY: f64 = 200.0;
        if expected > MANY {
            return (expected + expected.sqrt() * self.normal()).round().max(0.0) as u64;
        }
        let (limit, mut product, mut count) = ((-expected).exp(), self.0.f64(), 0);
        while product > limit {
            product *= self.0.f64();
            count += 1;
        }
        count
    }
}
