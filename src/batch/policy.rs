//! When a batch is cut, and why. Pure: it sees what waits as numbers.

use std::time::{Duration, Instant};

use crate::telemetry::metrics::CutReason;

/// What a batch of a model may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Rows of the largest batch; at least one.
    pub(super) max_size: usize,
    /// How long the oldest request of a batch may wait for more; zero leaves it to what is known of the callers.
    pub(super) max_delay: Duration,
    /// Whether each row's answer depends on that row alone. Where it does not, a request is computed alone and whole,
    /// whatever its rows.
    pub(super) row_wise: bool,
}

/// What waits in the group whose turn it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) rows: usize,
    /// Until when a worker may wait for more.
    pub(super) until: Instant,
    /// The earliest of its deadlines.
    pub(super) deadline: Instant,
    /// Whether requests wait that cannot share its batch.
    pub(super) others: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// For so long, unless more comes.
    Wait(Duration),
    /// What there is, up to the limits.
    Cut(CutReason),
}

/// How much later than asked a waiting worker may wake, on a machine that is not overloaded.
const LATENESS: Duration = Duration::from_millis(1);

/// Whether a worker cuts the next batch `now`. `needs` is what computing it takes, as far as that was measured; a quarter
/// is added, since half of all batches take longer than the mean.
pub(super) fn decide(head: &Head, limits: &Limits, needs: Duration, now: Instant) -> Decision {
    if !limits.row_wise || head.rows >= limits.max_size {
        return Decision::Cut(CutReason::Full);
    }
    let delay = head.until.saturating_duration_since(now);
    let spare = head.deadline.saturating_duration_since(now).saturating_sub(needs + needs / 4 + LATENESS);
    if delay.is_zero() {
        Decision::Cut(match (limits.max_delay.is_zero(), head.others) {
            (true, true) => CutReason::Shape,
            (true, false) => CutReason::Idle,
            (false, _) => CutReason::Delay,
        })
    } else if spare.is_zero() {
        Decision::Cut(CutReason::Deadline)
    } else if head.others {
        Decision::Cut(CutReason::Shape)
    } else {
        Decision::Wait(delay.min(spare))
    }
}

/// The most rows that one of `workers` takes of those that wait, while others compute so many: an equal part of all that
/// there is to compute. Taken whole, the rows would leave one worker with most of them, and the others with the next few to
/// come, one by one.
pub(super) fn share(waiting: usize, computing: usize, workers: usize) -> usize {
    (waiting + computing).div_ceil(workers.max(1)).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { max_size: 4, max_delay: Duration::from_millis(10), row_wise: true };

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_batch_is_cut_when_nothing_is_gained_by_waiting() {
        let (greedy, whole) = (Limits { max_delay: ms(0), ..LIMITS }, Limits { row_wise: false, ..LIMITS });
        let (cut, wait) = (Decision::Cut, |millis| Decision::Wait(ms(millis)));
        // Limits, rows, how long the oldest has waited, time to the earliest deadline, whether others wait.
        let table = [
            (LIMITS, 4, 0, 1000, false, cut(CutReason::Full)),
            (LIMITS, 9, 0, 1000, true, cut(CutReason::Full)),
            (LIMITS, 9, 20, 0, true, cut(CutReason::Full)),
            (greedy, 3, 0, 1000, false, cut(CutReason::Idle)),
            (greedy, 3, 0, 1000, true, cut(CutReason::Shape)),
            (LIMITS, 3, 0, 1000, false, wait(10)),
            (LIMITS, 3, 4, 1000, false, wait(6)),
            (LIMITS, 3, 10, 1000, true, cut(CutReason::Delay)),
            (LIMITS, 3, 4, 1000, true, cut(CutReason::Shape)),
            // A batch takes 8 ms: 10 with what is added, and one for waking late.
            (LIMITS, 3, 4, 11, false, cut(CutReason::Deadline)),
            (LIMITS, 3, 4, 12, false, wait(1)),
            (LIMITS, 3, 4, 0, false, cut(CutReason::Deadline)),
            (whole, 1, 0, 1000, false, cut(CutReason::Full)),
        ];
        for (limits, rows, waited, left, others, expected) in table {
            let since = Instant::now();
            let now = since + ms(waited);
            let head = Head { rows, until: since + limits.max_delay, deadline: now + ms(left), others };
            assert_eq!(decide(&head, &limits, ms(8), now), expected, "{head:?} waited {waited} ms");
        }
    }

    #[test]
    fn without_a_delay_those_who_are_expected_are_waited_for_unless_something_is_lost_by_it() {
        let (greedy, now) = (Limits { max_delay: ms(0), ..LIMITS }, Instant::now());
        // Rows, time to the earliest deadline, whether others wait.
        for (rows, left, others, expected) in [
            (3, 1000, false, Decision::Wait(ms(5))),
            (3, 13, false, Decision::Wait(ms(2))),
            (3, 11, false, Decision::Cut(CutReason::Deadline)),
            (3, 1000, true, Decision::Cut(CutReason::Shape)),
            (4, 1000, false, Decision::Cut(CutReason::Full)),
        ] {
            let head = Head { rows, until: now + ms(5), deadline: now + ms(left), others };
            assert_eq!(decide(&head, &greedy, ms(8), now), expected, "{head:?}");
        }
    }

    #[test]
    fn a_worker_leaves_the_others_their_part() {
        // Waiting, computed by others, workers, share.
        for (waiting, computing, workers, expected) in
            [(7, 0, 1, 7), (8, 0, 2, 4), (7, 1, 2, 4), (1, 7, 2, 4), (1, 0, 2, 1), (5, 0, 3, 2), (0, 0, 2, 1)]
        {
            assert_eq!(share(waiting, computing, workers), expected, "{waiting} and {computing} for {workers}");
        }
    }

    proptest! {
        #[test]
        fn nobody_waits_past_the_delay_nor_past_a_deadline_that_could_be_met(
            rows in 1_usize..9, waited in 0_u64..30, left in 0_u64..30, needs in 0_u64..30, others: bool, delay in 0_u64..20,
        ) {
            let since = Instant::now();
            let now = since + ms(waited);
            let limits = Limits { max_delay: ms(delay), ..LIMITS };
            let head = Head { rows, until: since + limits.max_delay, deadline: now + ms(left), others };
            if let Decision::Wait(time) = decide(&head, &limits, ms(needs), now) {
                prop_assert!(!time.is_zero() && rows < limits.max_size && !others);
                prop_assert!(now + time <= since + limits.max_delay);
                prop_assert!(now + time + ms(needs) < head.deadline);
            }
        }
    }
}
