//! A window in sums: of constant size, so that a run can keep the last one of stable, even in an annotation.

use std::collections::{BTreeMap, BTreeSet};

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

/// `count` of `of`, and how unevenly it fell on the slices. Written as a row of numbers, of which there are many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Row", into = "Row")]
pub struct Share {
    pub count: u64,
    pub of: u64,
    /// Slices with requests.
    pub slices: u64,
    /// The highest counts of single slices, falling.
    worst: [u64; WORST],
    /// Sums over slices of count², count · of, and of².
    squares: [f64; 3],
    /// Within rounds: squares of what pods are apart from what all of them together did, and what these would be if
    /// requests were independent.
    apart: [f64; 2],
}

type Row = (u64, u64, u64, [u64; WORST], [f64; 3], [f64; 2]);

const WORST: usize = 8;

impl From<Row> for Share {
    fn from((count, of, slices, worst, squares, apart): Row) -> Self {
        Share { count, of, slices, worst, squares, apart }
    }
}

impl From<Share> for Row {
    fn from(Share { count, of, slices, worst, squares, apart }: Share) -> Self {
        (count, of, slices, worst, squares, apart)
    }
}

impl Tally {
    /// What each pod did between two rounds, by models.
    pub(super) fn round(&mut self, pods: &[BTreeMap<&str, Counts>]) {
        let whole: Vec<Counts> =
            pods.iter().map(|models| models.values().fold(Counts::default(), Counts::plus)).collect();
        self.all.round(&whole.iter().collect::<Vec<_>>());
        let models: BTreeSet<&str> = pods.iter().flat_map(|models| models.keys().copied()).collect();
        for model in models {
            let slices: Vec<&Counts> = pods.iter().filter_map(|models| models.get(model)).collect();
            self.models.entry(model.to_owned()).or_default().round(&slices);
        }
    }
}

impl Sums {
    pub(super) const NONE: Sums =
        Sums { failed: Share::NONE, unserved: Share::NONE, rejected: Share::NONE, slower: BTreeMap::new() };

    fn round(&mut self, slices: &[&Counts]) {
        let of = |part: fn(&Counts) -> (u64, u64)| slices.iter().map(|slice| part(slice)).collect::<Vec<_>>();
        self.failed.round(&of(|slice| (slice.server_error, slice.answered())));
        self.unserved.round(&of(|slice| (slice.refused + slice.deadline, slice.answered())));
        self.rejected.round(&of(|slice| (slice.client_error, slice.answered() + slice.client_error)));
        let bounds: BTreeSet<u64> =
            slices.iter().flat_map(|slice| slice.within.range(..ENDLESS)).map(|(bound, _)| *bound).collect();
        for bound in bounds {
            let slower = |slice: &&Counts| {
                let timed = slice.timed();
                (timed.saturating_sub(slice.within.get(&bound).copied().unwrap_or(timed)), timed)
            };
            self.slower.entry(bound).or_default().round(&slices.iter().map(slower).collect::<Vec<_>>());
        }
    }
}

#[allow(clippy::cast_precision_loss)] // Nobody has 2⁵³ requests.
impl Share {
    const NONE: Share = Share { count: 0, of: 0, slices: 0, worst: [0; WORST], squares: [0.0; 3], apart: [0.0; 2] };

    /// The slices of one round.
    fn round(&mut self, slices: &[(u64, u64)]) {
        let (all, whole) = slices.iter().fold((0, 0), |(counts, ofs), (count, of)| (counts + count, ofs + of));
        let share = all as f64 / whole.max(1) as f64;
        for (count, of) in slices.iter().filter(|(_, of)| *of > 0) {
            self.count += count;
            self.of += of;
            self.slices += 1;
            let place = self.worst.partition_point(|worse| worse >= count);
            if place < WORST {
                self.worst[place..].rotate_right(1);
                self.worst[place] = *count;
            }
            let (x, n) = (*count as f64, *of as f64);
            let apart = [(x - share * n).powi(2), n * share * (1.0 - share) * (1.0 - n / whole as f64)];
            add(&mut self.squares, [x * x, x * n, n * n]);
            add(&mut self.apart, apart);
        }
    }

    pub fn share(&self) -> f64 {
        if self.of == 0 { 0.0 } else { self.count as f64 / self.of as f64 }
    }

    /// The count without so many of the worst slices, eight at most.
    pub(super) fn without(&self, slices: usize) -> u64 {
        self.count - self.worst.iter().take(slices).sum::<u64>()
    }

    /// By how much the count varies more than that of independent requests would, at least 1: the design effect of Rao
    /// and Scott (Biometrics 48, 1992). Between pods in the same round, since what changes for all of them changes for
    /// the other track, too; where there was one pod only, between its slices.
    pub(super) fn spread(&self) -> f64 {
        let [apart, alone] = self.apart;
        if alone > 0.0 { (apart / alone).max(1.0) } else { self.spread_in_time() }
    }

    /// The same between all slices, for a comparison of different times.
    pub(super) fn spread_in_time(&self) -> f64 {
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

fn add<const N: usize>(sums: &mut [f64; N], terms: [f64; N]) {
    for (sum, term) in sums.iter_mut().zip(terms) {
        *sum += term;
    }
}

impl Counts {
    pub(super) fn plus(mut self, other: &Counts) -> Counts {
        self.ok += other.ok;
        self.client_error += other.client_error;
        self.refused += other.refused;
        self.deadline += other.deadline;
        self.server_error += other.server_error;
        for (bound, count) in &other.within {
            *self.within.entry(*bound).or_default() += count;
        }
        self
    }
}
