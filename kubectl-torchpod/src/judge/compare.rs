//! Canary beside stable: errors and tails, of all models together and of each.

use super::chance::{Sample, by_chance};
use super::gate::Limits;
use super::latency::{self, Bound};
use super::tally::{Share, Sums, Tally};
use super::verdict::{Figure, Kind, Reason};
use super::words::{brief, long, time};

/// Failed, unserved, rejected and slow.
pub(super) const KINDS: usize = 4;

/// What holds for every comparison of one look.
pub(super) struct Bar<'a> {
    pub(super) limits: &'a Limits,
    /// What the limits are multiplied with.
    pub(super) slack: f64,
    /// The probability by chance at which a difference counts.
    pub(super) level: f64,
    /// Whether stable gets requests while the canary does, and not only before.
    pub(super) grows: bool,
}

/// Both tracks' sums, of all models or, where there are several, of one.
pub(super) struct Pair<'a> {
    pub(super) model: Option<&'a str>,
    pub(super) canary: &'a Sums,
    pub(super) stable: &'a Sums,
    /// How many pods the canary has.
    pub(super) pods: usize,
    /// Which part of stable's requests it had.
    pub(super) part: f64,
}

/// Of a model that the canary has not.
static NOTHING: Sums = Sums::NONE;

pub(super) struct Finding {
    pub(super) reason: Reason,
    pub(super) is_worse: bool,
}

/// Where the tails of a pair are compared.
pub(super) struct Tail {
    bounds: Vec<Bound>,
    stable_p99: f64,
    pub(super) bound: Bound,
}

impl<'a> Pair<'a> {
    #[allow(clippy::cast_precision_loss)] // Nobody has 2⁵³ requests.
    pub(super) fn all(stable: &'a Tally, canary: &'a Tally) -> Vec<Pair<'a>> {
        let pods = canary.pods;
        let mut pairs = vec![Pair { model: None, canary: &canary.all, stable: &stable.all, pods, part: 1.0 }];
        if stable.models.len() > 1 {
            let whole = stable.all.failed.of.max(1) as f64;
            pairs.extend(stable.models.iter().map(|(model, stable)| Pair {
                model: Some(model),
                canary: canary.models.get(model).unwrap_or(&NOTHING),
                stable,
                pods,
                part: stable.failed.of as f64 / whole,
            }));
        }
        pairs
    }

    /// None where one of them timed nothing.
    pub(super) fn tail(&self) -> Option<Tail> {
        let bounds = latency::common(self.canary, self.stable);
        let stable = bounds.iter().map(|bound| (bound.seconds, bound.stable.count));
        let stable_p99 = latency::p99(stable, bounds.first()?.stable.of)?;
        let bound = latency::tail(&bounds)?;
        (bound.canary.of > 0).then_some(Tail { bounds, stable_p99, bound })
    }
}

pub(super) fn findings(pair: &Pair<'_>, bar: &Bar<'_>) -> Vec<Finding> {
    let canary = pair.canary;
    let errors = bar.limits.error_increase * bar.slack;
    let rejections = bar.limits.rejection_increase * bar.slack;
    // An error is one whenever it happens; the others may come of one stall, or of one caller's rush.
    let failed = canary.failed.count;
    let (unserved, rejected) = (canary.unserved.without(stalls(pair)), canary.rejected.without(stalls(pair)));
    let mut findings = vec![
        excess(pair, bar, &Excess { kind: Kind::Failed, of: |sums| sums.failed, counted: failed, allowed: errors }),
        excess(
            pair,
            bar,
            &Excess { kind: Kind::Unserved, of: |sums| sums.unserved, counted: unserved, allowed: errors },
        ),
        excess(
            pair,
            bar,
            &Excess { kind: Kind::Rejected, of: |sums| sums.rejected, counted: rejected, allowed: rejections },
        ),
    ];
    findings.extend(pair.tail().and_then(|tail| slowness(pair, bar, &tail)));
    findings
}

/// How many of the canary's slices may be due to stalls of single pods: one of each, and one more, since a stall may
/// lie in two of them.
pub(super) fn stalls(pair: &Pair<'_>) -> usize {
    pair.pods + 1
}

/// A share that is not to be higher than stable's by more than `allowed`.
struct Excess {
    kind: Kind,
    of: fn(&Sums) -> Share,
    /// What counts of the canary's.
    counted: u64,
    allowed: f64,
}

fn excess(pair: &Pair<'_>, bar: &Bar<'_>, excess: &Excess) -> Finding {
    let (canary, stable) = ((excess.of)(pair.canary), (excess.of)(pair.stable));
    let counted = sample(excess.counted, canary.of);
    let chance = bar.chance(counted, &stable);
    let is_worse = counted.share() - stable.share() > excess.allowed && chance <= bar.level;
    let (what, hint) = match excess.kind {
        Kind::Failed => ("failed", ""),
        Kind::Unserved => ("were refused or answered too late", ""),
        _ if is_worse => (
            "were rejected as bad input",
            ": it refuses what stable takes, or a caller's bad requests reached it alone",
        ),
        _ => ("were rejected as bad input", ""),
    };
    let text = format!("canary: {}, stable: {}{hint}", long(canary, pair.model, what), brief(stable));
    Finding { reason: reason(pair, excess.kind, text, [canary.into(), stable.into()], chance), is_worse }
}

/// Whether the canary's 99th percentile is too many times stable's, and not by chance: that is told by how many requests
/// took longer than a bucket's bound, the one at stable's or next to it.
fn slowness(pair: &Pair<'_>, bar: &Bar<'_>, tail: &Tail) -> Option<Finding> {
    let Tail { bounds, stable_p99, bound } = tail;
    let of = bound.canary.of;
    let p99 = |left_out: usize| {
        let slower = bounds.iter().map(|bound| (bound.seconds, bound.canary.without(left_out)));
        latency::p99(slower, of)
    };
    let (shown, usual) = (p99(0)?, p99(stalls(pair))?);
    let chance = bar.chance(sample(bound.canary.without(stalls(pair)), of), &bound.stable);
    let allowed = 1.0 + (bar.limits.latency_ratio - 1.0) * bar.slack;
    let what = format!("took longer than {}", time(bound.seconds));
    let text = format!(
        "canary: {}, stable: {}; the 99th percentile is about {}, stable's {}",
        long(bound.canary, pair.model, &what),
        brief(bound.stable),
        time(shown),
        time(*stable_p99)
    );
    let figure = |share: Share, p99| Figure { p99_seconds: Some(p99), ..share.into() };
    let figures = [figure(bound.canary, shown), figure(bound.stable, *stable_p99)];
    let is_worse = usual > stable_p99 * allowed && chance <= bar.level;
    Some(Finding { reason: reason(pair, Kind::Latency, text, figures, chance), is_worse })
}

impl Bar<'_> {
    /// What stable's slices tell of how unevenly things fall holds for both: the canary's own unevenness may be its
    /// fault.
    pub(super) fn spread(&self, stable: &Share) -> f64 {
        if self.grows { stable.spread() } else { stable.spread_in_time() }
    }

    fn chance(&self, canary: Sample, stable: &Share) -> f64 {
        let spread = self.spread(stable);
        by_chance(canary.per(spread), sample(stable.count, stable.of).per(spread))
    }
}

#[allow(clippy::cast_precision_loss)] // Nobody has 2⁵³ requests.
pub(super) fn sample(count: u64, of: u64) -> Sample {
    Sample { count: count as f64, of: of as f64 }
}

fn reason(pair: &Pair<'_>, kind: Kind, text: String, [canary, stable]: [Figure; 2], chance: f64) -> Reason {
    let model = pair.model.map(str::to_owned);
    Reason { text, kind, model, canary: Some(canary), stable: Some(stable), chance: Some(chance) }
}

/// What is worth to be known and decides nothing.
pub(super) fn notes(stable: &Tally, canary: &Tally) -> Vec<String> {
    let mut notes: Vec<String> = stable.faults.iter().map(|fault| format!("stable: {fault}")).collect();
    let each = |tally: &Tally| tally.all.failed.of / tally.pods.max(1) as u64;
    let (canary, stable) = (each(canary), each(stable));
    if stable > 0 && canary > stable.saturating_mul(3) / 2 {
        notes.push(format!("the canary's pods got {canary} requests each and stable's {stable}: they had more to do"));
    }
    notes
}
