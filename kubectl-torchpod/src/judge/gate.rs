//! One look at a gate: what is allowed, and what follows from the comparisons.

use std::f64::consts::PI;

use serde::Serialize;

use super::compare::{self, Bar, Finding, Pair};
use super::tally::Tally;
use super::traffic::{self, Lack};
use super::verdict::{Decision, Reason, Verdict};

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Limits {
    /// How much more of the canary's requests than of stable's may fail, or may not be served, as a share.
    pub error_increase: f64,
    /// How many times stable's the canary's 99th percentile may be.
    pub latency_ratio: f64,
    /// How much more of the canary's requests may be rejected as bad input: wide, since callers are not the same.
    pub rejection_increase: f64,
    /// How probable it may be that a run stops a version that is as good as stable.
    pub false_alarm: f64,
    /// Gates of the run, among which that is divided.
    pub gates: u32,
    /// An increase of failed or slow requests, as a share, that no pass may overlook…
    pub detect: f64,
    /// …with this probability.
    pub power: f64,
    /// The least number of requests to the canary, whatever the test needs.
    pub min_requests: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            error_increase: 0.01,
            latency_ratio: 1.5,
            rejection_increase: 0.1,
            false_alarm: 0.01,
            gates: 4,
            detect: 0.05,
            power: 0.99,
            min_requests: 0,
        }
    }
}

/// What the canary is compared with.
#[derive(Clone, Copy, Debug)]
pub enum Against<'a> {
    /// Stable in the same rounds.
    Now(&'a Tally),
    /// Stable in its last window, where no pod of it is left: traffic may have changed since, so that limits are doubled.
    Before(&'a Tally),
}

#[derive(Clone, Debug)]
pub struct Judge {
    pub limits: Limits,
}

impl Judge {
    /// The verdict on a window. `look` counts the looks at this gate, from 1 on: a run may look as often as it likes, for
    /// example to stop early, since later looks are given less of the gate's share of false alarms (6 / π²k², whose sum
    /// over all k is 1). A pass before the gate's time is no reason to end it.
    pub fn judge(&self, look: u32, against: Against<'_>, canary: &Tally) -> Verdict {
        let (stable, is_now) = match against {
            Against::Now(stable) => (stable, true),
            Against::Before(stable) => (stable, false),
        };
        let pairs = Pair::all(stable, canary);
        let bar = Bar {
            limits: &self.limits,
            slack: if is_now { 1.0 } else { 2.0 },
            level: self.level(look, pairs.len()),
            grows: is_now,
        };
        let notes = compare::notes(stable, canary);
        let findings: Vec<Finding> = pairs.iter().flat_map(|pair| compare::findings(pair, &bar)).collect();
        let worse = findings.iter().filter(|finding| finding.is_worse).map(|finding| finding.reason.clone());
        let wrong: Vec<Reason> = canary.faults.iter().map(Reason::from).chain(worse).collect();
        if !wrong.is_empty() {
            return Verdict { decision: Decision::Fail, reasons: wrong, notes };
        }
        let lacks: Vec<Lack> = pairs.iter().filter_map(|pair| traffic::lack(pair, &bar)).collect();
        if !lacks.is_empty() {
            let more = lacks.iter().try_fold(0, |most, lack| lack.more.map(|more| more.max(most)));
            let reasons = lacks.into_iter().map(|lack| lack.reason).collect();
            return Verdict { decision: Decision::TooLittle { more }, reasons, notes };
        }
        let reasons = findings.into_iter().map(|finding| finding.reason).collect();
        Verdict { decision: Decision::Pass, reasons, notes }
    }

    /// As improbable must a single result be that stops a canary: all gates, looks, models and kinds together stay
    /// within the false alarms that are allowed (Bonferroni).
    #[allow(clippy::cast_precision_loss)] // A pod has few models.
    fn level(&self, look: u32, pairs: usize) -> f64 {
        let gate = self.limits.false_alarm / f64::from(self.limits.gates.max(1));
        let spent = 6.0 / (PI * f64::from(look.max(1))).powi(2);
        gate * spent / (compare::KINDS * pairs) as f64
    }
}
