//! How many callers there are, as requests in hand show it: those that wait or are computed. Pure.
//!
//! Most callers ask again as soon as they are answered. A worker that takes what waits at once takes the first of them
//! alone after each batch, and the others while he computes: in two batches, for ever. Where a batch takes as long as a row,
//! as on a GPU, everybody's answer takes twice as long as it need. So he waits for them, for a part of a batch's time, and
//! only for as long as they do come.

use std::time::{Duration, Instant};

use crate::telemetry::metrics::CutReason;

/// So many requests in hand are read in less time than it takes to wake a worker: the first of them wakes one, who finds the
/// others when he comes. To let them all come first would leave the worker idle while they are read, and those who read
/// while he computes. Where a delay is to collect more, nobody is woken for the first.
pub(super) const FEW: usize = 16;
/// With each batch, the largest crowd of late is remembered as smaller by one part in this.
const MEMORY: usize = 16;
/// The next of those who are expected is waited for during one part in this of what a batch takes.
const PART: u32 = 8;
/// So many times as long are all of them, at most.
const PARTS: u32 = 4;
/// Less is over before anybody has read an answer and asked again.
const LEAST: Duration = Duration::from_micros(100);
/// Who takes longer than this to ask again is not waited for, however long a batch takes.
const MOST: Duration = Duration::from_millis(10);
/// Where they do not come, so many batches at most are computed without a wait before the next try.
const DOUBT: u32 = 63;

#[derive(Debug, Default)]
pub(super) struct Crowd {
    /// The most requests in hand of late.
    size: usize,
    /// When the latest came.
    latest: Option<Instant>,
    /// How many batches were not waited for after the latest wait that was in vain.
    doubt: u32,
    /// How many of those are still to come.
    left: u32,
}

/// A wait as it began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// Requests that waited already.
    pub(super) waiting: usize,
    /// Those who were expected.
    pub(super) missing: usize,
}

impl Wait {
    /// Whether it has filled the batch or brought most of those, so that as many are `waiting` now. Who cannot share the
    /// batch was waited for in vain.
    pub(super) fn was_worth_it(self, waiting: usize, reason: CutReason) -> bool {
        match reason {
            CutReason::Full => true,
            CutReason::Shape => false,
            _ => 4 * waiting.saturating_sub(self.waiting) >= 3 * self.missing,
        }
    }
}

impl Crowd {
    /// A request has come, which is one of so many `in_hand`.
    pub(super) fn came(&mut self, in_hand: usize, when: Instant) {
        self.size = self.size.max(in_hand);
        self.latest = Some(when);
    }

    pub(super) fn is_small(&self) -> bool {
        self.size <= FEW
    }

    /// How many more than those `in_hand` are expected to come at once.
    pub(super) fn missing(&self, in_hand: usize) -> usize {
        if self.left > 0 { 0 } else { self.size.saturating_sub(in_hand) }
    }

    /// Until when a worker waits for them who has answered at `freed`, where the workers together compute a batch in
    /// `pace`; `None` where that is too soon for anybody.
    pub(super) fn until(&self, freed: Instant, pace: Duration) -> Option<Instant> {
        let part = (pace / PART).min(MOST);
        let latest = self.latest.filter(|_| part >= LEAST)?;
        Some((latest.max(freed) + part).min(freed + part * PARTS))
    }

    /// A batch is cut of so many `in_hand`; after a wait, with whether that `was_worth_it`.
    pub(super) fn cut(&mut self, in_hand: usize, was_worth_it: Option<bool>) {
        match was_worth_it {
            None => self.left = self.left.saturating_sub(1),
            Some(true) => self.doubt = 0,
            Some(false) => {
                self.doubt = (2 * self.doubt + 1).min(DOUBT);
                self.left = self.doubt;
            }
        }
        self.size = in_hand.max(self.size - self.size.div_ceil(MEMORY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Duration = Duration::from_millis(8);
    /// What is waited for one of them, where a batch takes that long.
    const STEP: Duration = Duration::from_millis(1);

    fn of(size: usize, latest: Instant) -> Crowd {
        let mut crowd = Crowd::default();
        crowd.came(size, latest);
        crowd
    }

    #[test]
    fn those_who_were_answered_are_waited_for_one_after_the_other() {
        let freed = Instant::now();
        let long_ago = freed.checked_sub(PACE).unwrap();
        // When the latest came, what a batch takes, and how long is waited.
        let table = [
            (long_ago, PACE, Some(STEP)),
            (freed + STEP / 2, PACE, Some(STEP * 3 / 2)),
            (freed + STEP * 7 / 2, PACE, Some(STEP * 4)),
            (long_ago, PACE * 1000, Some(MOST)),
            (long_ago, LEAST * PART, Some(LEAST)),
            (long_ago, LEAST * (PART - 1), None),
            (long_ago, Duration::ZERO, None),
        ];
        for (latest, pace, expected) in table {
            let until = of(8, latest).until(freed, pace);
            assert_eq!(until, expected.map(|wait| freed + wait), "{pace:?} a batch");
        }
        assert_eq!(Crowd::default().until(freed, PACE), None);
        assert_eq!([0, 7, 8, 9].map(|in_hand| of(8, freed).missing(in_hand)), [8, 1, 0, 0]);
    }

    #[test]
    fn a_wait_is_worth_it_if_three_of_four_come_or_the_batch_is_full() {
        let wait = Wait { waiting: 5, missing: 4 };
        let after = |reason| [0, 5, 7, 8, 9].map(|waiting| wait.was_worth_it(waiting, reason));
        assert_eq!(after(CutReason::Idle), [false, false, false, true, true]);
        assert_eq!((after(CutReason::Full), after(CutReason::Shape)), ([true; 5], [false; 5]));
    }

    #[test]
    fn waits_in_vain_are_made_ever_more_seldom() {
        let (mut crowd, now) = (Crowd::default(), Instant::now());
        let mut waits = Vec::new();
        for batch in 0..200 {
            crowd.came(8, now);
            let waits_now = crowd.missing(1) > 0;
            crowd.cut(1, waits_now.then_some(false));
            waits.extend(waits_now.then_some(batch));
        }
        assert_eq!(waits, [0, 2, 6, 14, 30, 62, 126, 190]);
        for _ in 0..DOUBT {
            crowd.cut(1, None);
        }
        for was_worth_it in [true, false] {
            crowd.came(8, now);
            assert_eq!(crowd.missing(1), 7);
            crowd.cut(1, Some(was_worth_it));
        }
        crowd.cut(1, None);
        assert!(crowd.missing(1) > 0, "after one that was worth it, one in vain counts as the first");
    }

    #[test]
    fn a_crowd_is_forgotten_batch_by_batch_and_never_smaller_than_what_is_in_hand() {
        let mut crowd = of(2 * FEW, Instant::now());
        for _ in 0..7 {
            crowd.cut(3, None);
        }
        assert!(!crowd.is_small());
        crowd.cut(3, None);
        assert!(crowd.is_small());
        for _ in 0..2 * FEW {
            crowd.cut(3, None);
        }
        assert_eq!(crowd.size, 3);
    }
}
