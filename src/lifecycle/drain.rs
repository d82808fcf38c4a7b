//! Counts requests, so that a shutdown knows what it finished and what it broke off.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Counts accepted requests from their head to the last byte of their answer. Clones share the counts.
#[derive(Clone, Default)]
pub struct Ledger(Arc<Counts>);

#[derive(Default)]
struct Counts {
    draining: AtomicBool,
    in_flight: AtomicU64,
    completed: AtomicU64,
    refused: AtomicU64,
    left: AtomicU64,
}

/// One accepted request. Say how it ended; dropped without a word, its client has left.
pub struct InFlight {
    ledger: Ledger,
    outcome: Outcome,
}

#[derive(Clone, Copy)]
enum Outcome {
    Left,
    Completed,
    Refused,
}

/// What happened between SIGTERM and the end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Answered, with a result or with an error other than 503.
    pub completed: u64,
    /// Answered with 503.
    pub refused: u64,
    /// The client closed its connection before the answer was out.
    pub left: u64,
    /// Accepted and not answered when the deadline passed.
    pub aborted: u64,
    pub seconds: f64,
}

impl Ledger {
    pub fn accept(&self) -> InFlight {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { ledger: self.clone(), outcome: Outcome::Left }
    }

    pub fn in_flight(&self) -> u64 {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// From now on, what ends counts for the report.
    pub fn start_drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    pub fn report(&self, took: Duration) -> Report {
        Report {
            completed: self.0.completed.load(Ordering::Relaxed),
            refused: self.0.refused.load(Ordering::Relaxed),
            left: self.0.left.load(Ordering::Relaxed),
            aborted: self.in_flight(),
            seconds: took.as_secs_f64(),
        }
    }
}

impl InFlight {
    /// The answer is written; `refused` where it was a 503.
    pub fn answered(mut self, refused: bool) {
        self.outcome = if refused { Outcome::Refused } else { Outcome::Completed };
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let counts = &self.ledger.0;
        if counts.draining.load(Ordering::Relaxed) {
            let count = match self.outcome {
                Outcome::Left => &counts.left,
                Outcome::Completed => &counts.completed,
                Outcome::Refused => &counts.refused,
            };
            count.fetch_add(1, Ordering::Relaxed);
        }
        counts.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "completed {}, refused {}, left by their clients {}, aborted {}, in {:.1} s",
            self.completed, self.refused, self.left, self.aborted, self.seconds
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_counts_each_request_once_by_how_it_ended() {
        let ledger = Ledger::default();
        ledger.accept().answered(false); // before the drain: not counted
        let (aborted, left) = (ledger.accept(), ledger.accept());
        ledger.start_drain();
        ledger.accept().answered(false);
        ledger.accept().answered(true);
        drop(left);
        let report = ledger.report(Duration::from_secs(1));
        assert_eq!(report, Report { completed: 1, refused: 1, left: 1, aborted: 1, seconds: 1.0 });
        drop(aborted);
        assert_eq!(ledger.in_flight(), 0);
    }
}
