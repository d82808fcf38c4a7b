//! Whether there was enough to judge by. A canary that gets ten requests does not pass for having lost none of them.

use super::chance::Demand;
use super::compare::{Bar, Pair, sample, stalls};
use super::tally::Share;
use super::verdict::{Kind, Reason};
use super::words::{percent, requests};

/// Nobody waits for a model with a smaller part of stable's requests; it is judged by what there is.
const RARE: f64 = 0.1;

pub(super) struct Lack {
    pub(super) reason: Reason,
    /// Requests to the canary, of all models.
    pub(super) more: Option<u64>,
}

/// What is missing before nothing found means that nothing is there.
pub(super) fn lack(pair: &Pair<'_>, bar: &Bar<'_>) -> Option<Lack> {
    if pair.part < RARE {
        return None;
    }
    let (canary, stable) = (pair.canary.failed, pair.stable.failed);
    let missing = missing(pair, bar);
    // So that what is left without the stalls is most of it.
    let least = 4 * stalls(pair) as u64;
    if canary.slices >= least && missing == Some(0) {
        return None;
    }
    let who = requests(pair.model);
    let text = match missing {
        _ if canary.of == 0 => format!("canary: answered no {who}: does the Service select its pods?"),
        None => format!("stable: {} {who} are too few to compare with", stable.of),
        Some(0) => format!(
            "canary: {who} came between {} readings of its pods, expected at least {least} to see how they vary",
            canary.slices
        ),
        Some(more) => format!(
            "canary: {} {who} are too few to be sure of noticing if {} more of them failed or were slow, {more} more are needed",
            canary.of,
            percent(bar.limits.detect)
        ),
    };
    let more = missing.map(|more| of_all(more, pair.part));
    let (model, figures) = (pair.model.map(str::to_owned), [canary, stable].map(|share| Some(share.into())));
    let [canary, stable] = figures;
    Some(Lack { reason: Reason { text, kind: Kind::Traffic, model, canary, stable, chance: None }, more })
}

/// How many more requests this pair needs; none where no number would do.
fn missing(pair: &Pair<'_>, bar: &Bar<'_>) -> Option<u64> {
    let has = pair.canary.failed.of;
    let errors = enough(bar, has, pair.stable.failed, Kind::Failed)?;
    let tail = pair.tail()?.bound;
    // Those that were rejected are timed, too.
    let slow = enough(bar, tail.canary.of, tail.stable, Kind::Latency)?;
    let least = if pair.model.is_none() { bar.limits.min_requests } else { 0 };
    Some(errors.max(least).saturating_sub(has).max(slow.saturating_sub(tail.canary.of)))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)] // Below 2⁵³.
fn enough(bar: &Bar<'_>, has: u64, stable: Share, kind: Kind) -> Option<u64> {
    // Of slow requests, those of the canary's worst slices do not count: a quarter of the least number of slices, and
    // the slices with the most of them.
    const WITHOUT_WORST: f64 = 0.65;
    let (slack, kept) = match kind {
        Kind::Failed => (bar.limits.error_increase * bar.slack, 1.0),
        _ => (0.0, WITHOUT_WORST),
    };
    let demand = Demand {
        level: bar.level,
        increase: bar.limits.detect,
        slack,
        power: bar.limits.power,
        spread: bar.spread(&stable),
        kept,
        grows: bar.grows,
    };
    demand.requests(has as f64, sample(stable.count, stable.of)).map(|needed| needed as u64)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)] // Below 2⁵³.
fn of_all(requests: u64, part: f64) -> u64 {
    (requests as f64 / part).ceil() as u64
}
