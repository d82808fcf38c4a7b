//! A made-up service whose pods count as a server does, with the unevenness that real ones have: shared noise and
//! rushes, slower nodes, uneven callers, stalls of single pods, errors one by one and in bursts.

use std::time::Duration;

use kubectl_torchpod::judge::{Counts, ENDLESS, Reading, Seen};

use crate::dice::Dice;

/// Between two rounds.
pub(crate) const SLICE: f64 = 5.0;

/// The server's own buckets, in nanoseconds.
const BOUNDS: [u64; 20] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    20_000_000_000,
    30_000_000_000,
    ENDLESS,
];

/// What the canary's version is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Version {
    Good,
    /// One request in twenty fails.
    Failing,
    ThreeTimesSlower,
    /// As fast as stable but in a rush, which it takes three times as long to get through.
    SlowUnderLoad,
}

pub(crate) struct World {
    pub dice: Dice,
    /// Requests a second, of all pods.
    pub rate: f64,
    median: f64,
    spread: f64,
    failing: f64,
    rejected: f64,
    /// Noise of latency that lasts, as a logarithm.
    weather: f64,
    rush: Option<Rush>,
}

/// More to do than usual for all pods.
struct Rush {
    slices: u64,
    traffic: f64,
}

pub(crate) struct Pod {
    name: String,
    pub is_canary: bool,
    /// Its node's slowness, and how many callers have chosen it.
    slowness: f64,
    weight: f64,
    /// How long the stall of the slice before goes on.
    stalled: f64,
    counts: Counts,
    /// How many took at most so long as each bound, and longer than the one before.
    buckets: [u64; BOUNDS.len()],
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        World {
            rate: dice.scale(20.0, 200.0),
            median: dice.scale(0.002, 0.1),
            spread: dice.between(0.2, 0.8),
            failing: if dice.happens(0.3) { 0.0 } else { dice.scale(1e-4, 5e-3) },
            rejected: if dice.happens(0.5) { 0.0 } else { dice.between(0.0, 0.2) },
            weather: 0.0,
            rush: None,
            dice,
        }
    }

    pub(crate) fn pods(&mut self, track: &str, count: usize, is_canary: bool) -> Vec<Pod> {
        let pod = |index| Pod {
            name: format!("{track}-{index}"),
            is_canary,
            slowness: self.dice.factor(0.08),
            weight: self.dice.factor(0.2),
            stalled: 0.0,
            counts: Counts::default(),
            buckets: [0; BOUNDS.len()],
        };
        (0..count).map(pod).collect()
    }

    /// Five seconds of all pods.
    pub(crate) fn pass(&mut self, pods: &mut [Pod], version: Version) {
        self.weather = 0.8 * self.weather + 0.08 * self.dice.normal();
        self.rush = match self.rush.take() {
            Some(Rush { slices: 1, .. }) => None,
            Some(rush) => Some(Rush { slices: rush.slices - 1, ..rush }),
            None if self.dice.happens(0.08) => {
                Some(Rush { slices: 1 + self.dice.count(2.0), traffic: self.dice.between(1.5, 3.0) })
            }
            None => None,
        };
        let burst = if self.dice.happens(0.02) { 0.03 } else { 0.0 };
        let whole: f64 = pods.iter().map(|pod| pod.weight).sum();
        for pod in pods {
            let traffic = self.rush.as_ref().map_or(1.0, |rush| rush.traffic);
            let share = pod.weight / whole;
            let requests = self.dice.count(self.rate * SLICE * share * traffic);
            self.slice(pod, requests, burst, version);
        }
    }

    fn slice(&mut self, pod: &mut Pod, requests: u64, burst: f64, version: Version) {
        let stall = self.stall(pod);
        let is_rush = self.rush.is_some();
        let mine = |bad| pod.is_canary && version == bad;
        let is_slower = mine(Version::ThreeTimesSlower) || is_rush && mine(Version::SlowUnderLoad);
        let slower = if is_slower { 3.0 } else { 1.0 } * if is_rush { 1.3 } else { 1.0 };
        let failing = self.failing + burst + if mine(Version::Failing) { 0.05 } else { 0.0 };
        let median = self.median * pod.slowness * slower * self.weather.exp();
        for _ in 0..requests {
            let mut seconds = median * self.dice.factor(self.spread);
            let counts = &mut pod.counts;
            if self.dice.happens(self.rejected) {
                counts.client_error += 1;
                seconds = 0.000_2;
            } else if self.dice.happens(failing) {
                counts.server_error += 1;
            } else if is_rush && self.dice.happens(0.002) {
                counts.refused += 1;
                seconds = 0.000_3;
            } else {
                counts.ok += 1;
                if self.dice.happens(stall / SLICE) {
                    seconds += self.dice.between(0.0, stall);
                }
            }
            let nanos = u64::try_from(Duration::from_secs_f64(seconds).as_nanos()).unwrap_or(ENDLESS);
            pod.buckets[BOUNDS.partition_point(|bound| *bound < nanos)] += 1;
        }
    }

    /// How long the pod answers nothing in this slice, as when memory is tidied up: every five minutes, for two seconds
    /// at most.
    fn stall(&mut self, pod: &mut Pod) -> f64 {
        let left = std::mem::take(&mut pod.stalled);
        if !self.dice.happens(SLICE / 300.0) {
            return left;
        }
        let (begins, lasts) = (self.dice.between(0.0, SLICE), self.dice.between(0.3, 2.0));
        pod.stalled = (begins + lasts - SLICE).max(0.0);
        (left + lasts - pod.stalled).min(SLICE)
    }
}

impl Pod {
    pub(crate) fn seen(&self) -> Seen {
        let key = ("digits".to_owned(), "1".to_owned());
        let mut within = 0;
        let cumulated = self.buckets.iter().map(|count| {
            within += count;
            within
        });
        let within = BOUNDS.into_iter().zip(cumulated).collect();
        let page = Reading::from_iter([(key, Counts { within, ..self.counts.clone() })]);
        Seen { uid: self.name.clone(), name: self.name.clone(), page: Ok(page) }
    }
}
