//! How fast a model computes, as measured, and what follows from it for those who wait and those who come. Pure.
//!
//! Two figures per size class: the mean, for what is told and planned, and the least of late, for refusing. Whoever is
//! refused would not have made it even if every batch ahead had been full and as quick as the quickest.

use std::time::{Duration, Instant};

use super::policy::{self, Limits};

/// A new measurement moves the mean by one part in this.
const WEIGHT: u32 = 8;
/// The least is that of at least so many batches, and of at most twice as many.
const WINDOW: u32 = 16;
/// While a worker has nothing to do, measurements of longer ago refuse nobody: the next batch will tell.
const FRESH: Duration = Duration::from_secs(1);

/// Batch times by size class: powers of two, each with what is above the one before.
#[derive(Debug, Default)]
pub(super) struct Pace {
    classes: Vec<Option<Class>>,
    last: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Class {
    mean: Duration,
    /// In this window, and in the one before.
    least: [Duration; 2],
    /// Batches in this window.
    count: u32,
}

/// Requests, and their rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub requests: usize,
    pub rows: usize,
}

/// Who computes: so many workers, each a batch within the limits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crew {
    pub(super) workers: usize,
    pub(super) limits: Limits,
}

impl Crew {
    /// What one of them takes of so many rows, where nobody else has any.
    fn part(&self, rows: usize) -> usize {
        policy::share(rows, 0, self.workers).min(self.limits.max_size)
    }
}

impl Pace {
    /// A batch of `rows` was computed.
    pub(super) fn record(&mut self, rows: usize, took: Duration, now: Instant) {
        let class = class_of(rows);
        if self.classes.len() <= class {
            self.classes.resize(class + 1, None);
        }
        self.classes[class] = Some(self.classes[class].map_or(Class::new(took), |known| known.after(took)));
        self.last = Some(now);
    }

    /// Whether somebody who has nothing to do should rather try than believe what was measured.
    pub(super) fn is_stale(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) > FRESH)
    }

    /// What a batch of `rows` takes, on average; zero where nothing was measured.
    pub(super) fn expected(&self, rows: usize) -> Duration {
        let class = class_of(rows);
        let known = |index: usize| self.classes.get(index).copied().flatten().map(|class| class.mean);
        let larger = (class..self.classes.len()).find_map(known);
        larger
            .or_else(|| (0..class).rev().find_map(|index| Some(times(known(index)?, 1 << (class - index)))))
            .unwrap_or_default()
    }

    /// The least time in which `crew` could have computed a newcomer of `rows` behind those who are `ahead` of it; zero
    /// where nothing was measured.
    pub(super) fn at_least(&self, ahead: Load, rows: usize, crew: &Crew) -> Duration {
        let limits = &crew.limits;
        // Batches that cannot hold the newcomer's last row.
        let (before, size, own) = if limits.row_wise {
            ((ahead.rows + rows.saturating_sub(1)) / limits.max_size, limits.max_size, crew.part(rows))
        } else {
            (ahead.requests, 1, rows)
        };
        times(self.least(size), before / crew.workers.max(1)) + self.least(own)
    }

    /// How soon one batch of `rows` follows another where all of `crew` compute such, on average; zero where nothing was
    /// measured.
    pub(super) fn interval(&self, rows: usize, crew: &Crew) -> Duration {
        let workers = u32::try_from(crew.workers.max(1)).unwrap_or(u32::MAX);
        self.expected(rows.min(crew.limits.max_size)) / workers
    }

    /// How long `crew` needs for what waits, on average; zero where nothing was measured.
    pub(super) fn drain(&self, waiting: Load, crew: &Crew) -> Duration {
        let limits = &crew.limits;
        let (batches, size) = if limits.row_wise {
            let part = crew.part(waiting.rows);
            (waiting.rows.div_ceil(part), part)
        } else {
            (waiting.requests, waiting.rows.div_ceil(waiting.requests.max(1)))
        };
        times(self.expected(size), batches.div_ceil(crew.workers.max(1)))
    }

    /// The least that a batch of `rows` or more has taken of late, or any batch where none was so large.
    fn least(&self, rows: usize) -> Duration {
        let least = |classes: &[Option<Class>]| classes.iter().flatten().map(Class::least).min();
        let larger = self.classes.get(class_of(rows)..).and_then(least);
        larger.or_else(|| least(&self.classes)).unwrap_or_default()
    }
}

impl Class {
    fn new(took: Duration) -> Self {
        Self { mean: took, least: [took, Duration::MAX], count: 1 }
    }

    fn after(self, took: Duration) -> Self {
        let mean = (self.mean * (WEIGHT - 1) + took) / WEIGHT;
        if self.count < WINDOW {
            return Self { mean, least: [self.least[0].min(took), self.least[1]], count: self.count + 1 };
        }
        Self { mean, least: [took, self.least[0]], count: 1 }
    }

    fn least(&self) -> Duration {
        self.least[0].min(self.least[1])
    }
}

fn class_of(rows: usize) -> usize {
    rows.checked_next_power_of_two().map_or(usize::BITS, usize::trailing_zeros) as usize
}

fn times(time: Duration, count: usize) -> Duration {
    time.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn crew(workers: usize, row_wise: bool) -> Crew {
        Crew { workers, limits: Limits { max_size: 32, max_delay: Duration::ZERO, row_wise } }
    }

    fn measured(batches: &[(usize, u64)]) -> Pace {
        let mut pace = Pace::default();
        for (rows, took) in batches {
            pace.record(*rows, ms(*took), Instant::now());
        }
        pace
    }

    #[test]
    fn without_measurements_everything_takes_no_time() {
        let (pace, load) = (Pace::default(), Load { requests: 1000, rows: 100_000 });
        assert_eq!(pace.at_least(load, 100, &crew(1, true)), Duration::ZERO);
        assert_eq!((pace.drain(load, &crew(1, true)), pace.expected(32)), (Duration::ZERO, Duration::ZERO));
        assert!(pace.is_stale(Instant::now()));
    }

    #[test]
    fn a_newcomer_needs_the_full_batches_before_it_and_its_own() {
        // One row takes 10 ms, 32 take 40.
        let pace = measured(&[(1, 10), (32, 40)]);
        // Workers, row-wise, requests and rows ahead, rows of the newcomer, milliseconds.
        let table = [
            (1, true, 0, 0, 1, 10),
            (1, true, 0, 0, 2, 40),
            (1, true, 31, 31, 1, 10),
            (1, true, 32, 32, 1, 40 + 10),
            (1, true, 31, 31, 2, 40 + 40),
            (1, true, 0, 0, 100, 3 * 40 + 40),
            (3, true, 0, 0, 96, 40),
            (3, true, 0, 0, 97, 40 + 40),
            (3, true, 320, 320, 1, 3 * 40 + 10),
            // Not row-wise: a batch for each request, of whatever size.
            (1, false, 2, 200, 1, 2 * 10 + 10),
            (2, false, 2, 200, 64, 10 + 10),
        ];
        for (workers, row_wise, requests, rows, own, expected) in table {
            let got = pace.at_least(Load { requests, rows }, own, &crew(workers, row_wise));
            assert_eq!(got, ms(expected), "{own} rows behind {rows} of {requests}, {workers} workers");
        }
    }

    #[test]
    fn those_who_compute_a_request_together_need_a_part_of_its_time() {
        let (pace, load) = (measured(&[(16, 20), (32, 40)]), Load { requests: 1, rows: 32 });
        for (workers, expected) in [(1, 40), (2, 20)] {
            assert_eq!(pace.at_least(Load::default(), 32, &crew(workers, true)), ms(expected), "{workers} workers");
            assert_eq!(pace.drain(load, &crew(workers, true)), ms(expected), "{workers} workers");
        }
        assert_eq!(pace.at_least(Load::default(), 32, &crew(2, false)), ms(40));
    }

    #[test]
    fn one_slow_batch_refuses_nobody_and_a_slow_machine_does() {
        let mut pace = measured(&[(1, 10), (1, 9000)]);
        let alone = |pace: &Pace| pace.at_least(Load::default(), 1, &crew(1, true));
        assert_eq!(alone(&pace), ms(10));
        for _ in 0..2 * WINDOW {
            pace.record(1, ms(100), Instant::now());
        }
        assert_eq!(alone(&pace), ms(100));
    }

    #[test]
    fn the_mean_follows_what_is_measured() {
        let mut pace = measured(&[(1, 80), (1, 160)]);
        assert_eq!(pace.expected(1), ms(90));
        for _ in 0..100 {
            pace.record(1, ms(8), Instant::now());
        }
        assert!(pace.expected(1) < ms(9), "{:?}", pace.expected(1));
    }

    #[test]
    fn a_size_that_was_not_measured_is_taken_for_the_next_larger_or_grows_from_the_next_smaller() {
        let pace = measured(&[(4, 10), (32, 40)]);
        for (rows, expected) in [(1, 10), (4, 10), (5, 40), (32, 40), (33, 80), (128, 160)] {
            assert_eq!(pace.expected(rows), ms(expected), "{rows} rows");
        }
    }

    #[test]
    fn a_queue_is_drained_batch_by_batch_by_all_workers_at_once() {
        let pace = measured(&[(1, 10), (32, 40)]);
        let load = |requests, rows| Load { requests, rows };
        for (workers, row_wise, waiting, expected) in [
            (1, true, load(0, 0), 0),
            (1, true, load(1, 1), 10),
            (1, true, load(20, 320), 400),
            (3, true, load(20, 320), 160),
            (1, false, load(20, 20), 200),
            (1, false, load(2, 64), 80),
        ] {
            assert_eq!(pace.drain(waiting, &crew(workers, row_wise)), ms(expected), "{waiting:?}, {workers} workers");
        }
    }

    #[test]
    fn batches_of_several_workers_follow_one_another_sooner() {
        let pace = measured(&[(4, 10), (32, 40)]);
        assert_eq!([1, 4].map(|workers| pace.interval(100, &crew(workers, true))), [ms(40), ms(10)]);
        assert_eq!(pace.interval(3, &crew(1, true)), ms(10));
    }

    #[test]
    fn measurements_grow_stale() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.record(1, ms(1), now);
        assert!(!pace.is_stale(now + FRESH));
        assert!(pace.is_stale(now + FRESH + ms(1)));
    }
}
