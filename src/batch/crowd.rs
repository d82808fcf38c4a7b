//! How many callers there are, as requests in hand show it: those that wait or are computed. Pure.
//!
//! Most callers ask again as soon as they are answered. A worker that takes what waits at once takes the first of them
//! alone after each batch, and the others while he computes: in two batches, for ever. Where a batch takes as long as a row,
//! as on a GPU, everybody's answer takes twice as long as it need. So he waits for them, for a part of a batch's time, and
//! only for as long as they do come.

use std::time::{Duration, Instant};

/// So many requests in hand are read in less time than it takes to wake a worker: the first of them wakes one, who finds the
/// others when he comes. To let them all come first would leave the worker idle while they are read, and those who read
/// while he computes. Where a delay is to collect more, nobody is woken for the first.
pub(super) const FEW: usize = 16;
/// With each batch, the largest crowd of late is remembered as smaller by one part in this.
const MEMORY: usize = 16;
/// The next of those who are expected is waited for during one part in this of the time that the batch needs.
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

impl Crowd {
    /// A request has come, which is one of so many `in_hand`.
    pub(super) fn came(&mut self, in_hand: usize, when: Instant) {
        self.size = self.size.max(in_hand);
        self.latest = Some(when);
    }

    pub(super) fn is_small(&self) -> bool {
        self.size <= FEW
    }

    /// Until when a worker waits for those whom he answered at `freed`, for a batch that `needs` so long and with so many
    /// `in_hand`; `None` where nobody is expected.
    pub(super) fn until(&self, freed: Instant, in_hand: usize, needs: Duration) -> Option<Instant> {
        let part = (needs / PART).min(MOST);
        if self.left > 0 || part < LEAST || in_hand >= self.size {
            return None;
        }
        Some((self.latest?.max(freed) + part).min(freed + part * PARTS))
    }

    /// A batch is cut of so many `in_hand`, after a wait for more where there was one.
    pub(super) fn cut(&mut self, in_hand: usize, after_a_wait: bool) {
        if !after_a_wait {
            self.left = self.left.saturating_sub(1);
        } else if 4 * in_hand >= 3 * self.size {
            self.doubt = 0;
        } else {
            self.doubt = (2 * self.doubt + 1).min(DOUBT);
            self.left = self.doubt;
        }
        self.size = in_hand.max(self.size - self.size.div_ceil(MEMORY));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Duration = Duration::from_millis(8);
    /// What is waited for one of them, where a batch needs that long.
    const STEP: Duration = Duration::from_millis(1);

    fn of(size: usize, latest: Instant) -> Crowd {
        let mut crowd = Crowd::default();
        crowd.came(size, latest);
        crowd
    }

    #[test]
    fn those_who_were_answered_are_waited_for_one_after_the_other() {
        let freed = Instant::now();
        let long_ago = freed.checked_sub(NEEDS).unwrap();
        // When the latest came, how many of eight are in hand, what the batch needs, and how long is waited.
        let table = [
            (long_ago, 1, NEEDS, Some(STEP)),
            (freed + STEP / 2, 7, NEEDS, Some(STEP * 3 / 2)),
            (freed + STEP * 7 / 2, 7, NEEDS, Some(STEP * 4)),
            (freed + STEP / 2, 8, NEEDS, None),
            (long_ago, 1, NEEDS * 1000, Some(MOST)),
            (long_ago, 1, LEAST * PART, Some(LEAST)),
            (long_ago, 1, LEAST * (PART - 1), None),
            (long_ago, 1, Duration::ZERO, None),
        ];
        for (latest, in_hand, needs, expected) in table {
            let until = of(8, latest).until(freed, in_hand, needs);
            assert_eq!(until, expected.map(|wait| freed + wait), "{in_hand} in hand, {needs:?}, {:?}", latest - freed);
        }
        assert_eq!(Crowd::default().until(freed, 0, NEEDS), None);
    }

    #[test]
    fn waits_in_vain_are_made_ever_more_seldom() {
        let (mut crowd, now) = (Crowd::default(), Instant::now());
        let mut waits = Vec::new();
        for batch in 0..200 {
            crowd.came(8, now);
            let waits_now = crowd.until(now, 1, NEEDS).is_some();
            crowd.cut(1, waits_now);
            waits.extend(waits_now.then_some(batch));
        }
        assert_eq!(waits, [0, 2, 6, 14, 30, 62, 126, 190]);
        for _ in 0..DOUBT {
            crowd.cut(1, false);
        }
        crowd.came(8, now);
        crowd.cut(6, true);
        assert!(crowd.until(now, 1, NEEDS).is_some(), "most of them came");
    }

    #[test]
    fn a_crowd_is_forgotten_batch_by_batch_and_never_smaller_than_what_is_in_hand() {
        let mut crowd = of(2 * FEW, Instant::now());
        for _ in 0..7 {
            crowd.cut(3, false);
        }
        assert!(!crowd.is_small());
        crowd.cut(3, false);
        assert!(crowd.is_small());
        for _ in 0..2 * FEW {
            crowd.cut(3, false);
        }
        assert_eq!(crowd.size, 3);
    }
}
