//! A window in sums: of constant size, so that a run can keep the last one of stable, even in an annotation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::reading::{Counts, ENDLESS};
use super::window::Fault;

/// What the pods of a track did in a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    pub faults: Vec<Fault>,
    /// How many there are now.
    pub pods: usize,
    /// All models together.
    pub all: Sums,
    pub models: BTreeMap<String, Sums>,
}

/// Everything that is compared. A slice is what one pod did between two rounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// 500, of what the server had to answer.
    pub failed: Share,
    /// 503 and 504, of the same.
    pub unserved: Share,
    /// 4xx, of these together.
    pub rejected: Share,
    /// Slower than each bound, in nanoseconds, of everything that was timed.
    pub slower: BTreeMap<u64, Share>,
}

/// `count` of `of`, and how unevenly it fell on the slices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Share {
    pub count: u64,
    pub of: u64,
    /// Slices with requests.
    pub slices: u64,
    /// The two slices with the highest counts.
    worst: [u64; 2],
    /// Sums over slices of count², count · of, and of².
    squares: [f64; 3],
}

impl Tally {
    /// One pod's slice, by models.
    pub(super) fn add<'a>(&mut self, models: impl IntoIterator<Item = (&'a str, Counts)>) {
        let mut by_model: BTreeMap<&str, Counts> = BTreeMap::new();
        let mut all = Counts::default();
        for (model, counts) in models {
            by_model.entry(model).or_default().plus(&counts);
            all.plus(&counts);
        }
        self.all.add(&all);
        for (model, counts) in by_model {
            self.models.entry(model.to_owned()).or_default().add(&counts);
        }
    }
}

impl Sums {
    pub(super) const NONE: Sums =
        Sums { failed: Share::NONE, unserved: Share::NONE, rejected: Share::NONE, slower: BTreeMap::new() };

    fn add(&mut self, slice: &Counts) {
        let answered = slice.answered();
        self.failed.add(slice.server_error, answered);
        self.unserved.add(slice.refused + slice.deadline, answered);
        self.rejected.add(slice.client_error, answered + slice.client_error);
        let timed = slice.timed();
        for (bound, within) in slice.within.range(..ENDLESS) {
            self.slower.entry(*bound).or_default().add(timed.saturating_sub(*within), timed);
        }
    }
}

#[allow(clippy::cast_precision_loss)] // Nobody has 2⁵³ requests.
impl Share {
    const NONE: Share = Share { count: 0, of: 0, slices: 0, worst: [0; 2], squares: [0.0; 3] };

    pub(super) fn add(&mut self, count: u64, of: u64) {
        if of == 0 {
            return;
        }
        self.count += count;
        self.of += of;
        self.slices += 1;
        if count > self.worst[0] {
            self.worst = [count, self.worst[0]];
        } else {
            self.worst[1] = self.worst[1].max(count);
        }
        let (x, n) = (count as f64, of as f64);
        for (sum, term) in self.squares.iter_mut().zip([x * x, x * n, n * n]) {
            *sum += term;
        }
    }

    pub fn share(&self) -> f64 {
        if self.of == 0 { 0.0 } else { self.count as f64 / self.of as f64 }
    }

    /// The count without the two worst slices, into which a stall of one pod falls.
    pub(super) fn usual(&self) -> u64 {
        self.count - self.worst[0] - self.worst[1]
    }

    /// By how much the count varies between slices more than that of independent requests would: the design effect of
    /// Rao and Scott (Biometrics 48, 1992), at least 1.
    pub(super) fn spread(&self) -> f64 {
        let p = self.share();
        let alone = self.of as f64 * p * (1.0 - p);
        if self.slices < 2 || alone <= 0.0 {
            return 1.0;
        }
        let [xx, xn, nn] = self.squares;
        let slices = self.slices as f64;
        let between = (xx - 2.0 * p * xn + p * p * nn) * slices / (slices - 1.0);
        (between / alone).max(1.0)
    }
}

impl Counts {
    fn plus(&mut self, other: &Counts) {
        self.ok += other.ok;
        self.client_error += other.client_error;
        self.refused += other.refused;
        self.deadline += other.deadline;
        self.server_error += other.server_error;
        for (bound, count) in &other.within {
            *self.within.entry(*bound).or_default() += count;
        }
    }
}
