//! What a canary does next: from what is seen of the cluster to one action. It knows nothing but that, so that a run
//! that was ended at any instant is gone on with by the next one.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::change::{Change, Side};
use super::record::{CAUSE, Phase, Record};
use super::size::{Aim, toward};
use super::step::{Shares, Sizes, Step};
use super::track::Track;

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Plan {
    pub container: String,
    pub image: String,
    pub shares: Shares,
    /// How many pods there may be above the total.
    pub surge: Surge,
    /// How long a step may take, its gate included.
    pub timeout: Duration,
    /// The command, for `kubernetes.io/change-cause`.
    pub cause: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surge {
    Pods(i32),
    Percent(i32),
}

/// What there is.
#[derive(Clone, Debug)]
pub struct Seen {
    pub stable: Track,
    pub canary: Track,
    /// What the numbers of this step say, once they say something.
    pub gate: Option<Gate>,
    /// Whether this very run has seen the canary under way, so that its end is this run's end.
    pub is_under_way: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    Passed {
        said: String,
        /// What to compare with from now on, where stable has no pods any more.
        numbers: Option<String>,
    },
    Failed(String),
    /// Too little traffic so far.
    Unclear(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Change(Change),
    /// Look again, after a while.
    Wait(String),
    /// Let the numbers of this step be watched.
    Watch(Step),
    End(End),
    /// Nothing is changed; what to do is said.
    Refuse(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    Promoted,
    TakenBack(String),
}

pub fn next(seen: &Seen, plan: &Plan, now: Timestamp) -> Action {
    let Some(record) = &seen.canary.record else { return begin(seen, plan, now) };
    match record.phase {
        Phase::Promoted if seen.is_under_way => Action::End(End::Promoted),
        Phase::TakenBack if seen.is_under_way => Action::End(End::TakenBack(reason(record))),
        Phase::Promoted if is_done(seen, record, plan) => Action::End(End::Promoted),
        Phase::Promoted | Phase::TakenBack => begin(seen, plan, now),
        Phase::Returning => go_back(seen, record, plan, now),
        _ if record.new != plan.image => Action::Refuse(format!(
            "a canary of {} is under way: go on with --image {}, or end it by `kubectl torchpod rollback`",
            record.new, record.new
        )),
        _ if record.shares != plan.shares => Action::Refuse(format!(
            "the canary that is under way has other steps: go on with --steps {}, or end it by `kubectl torchpod rollback`",
            record.shares
        )),
        Phase::Stepping { percent } => step(seen, record, plan, percent, now),
        Phase::Promoting => promote(seen, record, plan, now),
    }
}

/// The way back, from wherever it is.
pub fn turn_back(record: &Record, reason: String) -> Change {
    let what = format!("goes back: {reason}");
    Change::remember(what, &Record { phase: Phase::Returning, reason: Some(reason), numbers: None, ..record.clone() })
}

fn reason(record: &Record) -> String {
    record.reason.clone().unwrap_or_default()
}

/// The same command again, after its end.
fn is_done(seen: &Seen, record: &Record, plan: &Plan) -> bool {
    record.new == plan.image && seen.stable.image == plan.image && seen.canary.size == 0
}

// ## => Stepping { the first }
fn begin(seen: &Seen, plan: &Plan, now: Timestamp) -> Action {
    let (stable, canary) = (&seen.stable, &seen.canary);
    if stable.image == plan.image {
        return Action::Refuse(format!("{} runs {} already: there is nothing to try", stable.name, plan.image));
    }
    if stable.size == 0 || !stable.is_ready() {
        let pending = stable.trouble.clone().or(stable.pending.clone());
        return Action::Refuse(format!(
            "{} has {} of {} pods ready: a canary needs a stable version to be compared with, so mend that first{}",
            stable.name,
            stable.ready,
            stable.size,
            pending.map_or(String::new(), |pending| format!(" ({pending})"))
        ));
    }
    let total = stable.size + canary.ready;
    let steps = plan.shares.of(total);
    let first = steps[0];
    if canary.size > first.sizes.canary {
        return Action::Refuse(format!(
            "{} has {} pods, and the first step is {}: scale it to {} or fewer first (stable up before, where capacity matters)",
            canary.name, canary.size, first.sizes.canary, first.sizes.canary
        ));
    }
    let record = Record {
        phase: Phase::Stepping { percent: first.percent },
        container: plan.container.clone(),
        old: stable.image.clone(),
        new: plan.image.clone(),
        shares: plan.shares.clone(),
        total,
        before: Sizes { stable: stable.size, canary: canary.size },
        started: now,
        verdict: None,
        numbers: None,
        reason: None,
    };
    let what = format!("{} gets {}, for {} % of {} pods", canary.name, plan.image, first.percent, total);
    let mut change = Change::remember(what, &record);
    change.image = Some((plan.container.clone(), plan.image.clone()));
    let room = total.saturating_add(plan.surge.of(total)) - stable.size;
    change.replicas = Some(first.sizes.canary.min(room).max(canary.size));
    change.annotations.insert(CAUSE, Some(plan.cause.clone()));
    Action::Change(change)
}

// ## Stepping { percent } => Stepping { the next } | Promoting | Returning
fn step(seen: &Seen, record: &Record, plan: &Plan, percent: u32, now: Timestamp) -> Action {
    let (stable, canary) = (&seen.stable, &seen.canary);
    for (track, image) in [(stable, &record.old), (canary, &record.new)] {
        if track.image != *image {
            return Action::Refuse(format!(
                "somebody gave {} the image {}, where this canary needs {image}: set it back and run the same command again, \
                 or end it by `kubectl torchpod rollback`",
                track.name, track.image
            ));
        }
    }
    let steps = record.shares.of(record.total);
    let Some(place) = steps.iter().position(|step| step.percent == percent) else {
        return Action::Refuse(format!(
            "{percent} % is none of the steps {}: `kubectl torchpod rollback`",
            record.shares
        ));
    };
    let here = steps[place];
    if let Some(reason) = failure(canary, now) {
        return Action::Change(turn_back(record, reason));
    }
    if let Some(change) = resize(seen, record, plan, here.sizes, Aim::Forward) {
        return Action::Change(change);
    }
    if !canary.is_ready() || !stable.is_ready() {
        return Action::Wait(format!("{percent} %: {}, {}", told(stable), told(canary)));
    }
    match &seen.gate {
        Some(Gate::Passed { said, numbers }) => {
            let numbers = numbers.clone().or(record.numbers.clone());
            let record = Record { verdict: Some(said.clone()), numbers, ..record.clone() };
            Action::Change(passed(&record, steps.get(place + 1)))
        }
        Some(Gate::Failed(why)) => {
            let record = Record { verdict: Some(why.clone()), ..record.clone() };
            Action::Change(turn_back(&record, why.clone()))
        }
        Some(Gate::Unclear(why)) if is_late(canary, plan, now) => {
            let reason = format!("{why} within --timeout {}", humantime::format_duration(plan.timeout));
            Action::Change(turn_back(record, reason))
        }
        _ => Action::Watch(here),
    }
}

fn passed(record: &Record, next: Option<&Step>) -> Change {
    let Some(next) = next else {
        let what = format!("every gate was passed: {} becomes stable", record.new);
        return Change::remember(what, &Record { phase: Phase::Promoting, numbers: None, ..record.clone() });
    };
    let what = format!("on to {} %: {} + {} pods", next.percent, next.sizes.stable, next.sizes.canary);
    Change::remember(what, &Record { phase: Phase::Stepping { percent: next.percent }, ..record.clone() })
}

// ## Promoting => Promoted | Returning
fn promote(seen: &Seen, record: &Record, plan: &Plan, now: Timestamp) -> Action {
    let (stable, canary) = (&seen.stable, &seen.canary);
    if stable.image != record.new {
        let what = format!("{} gets {}", stable.name, record.new);
        let mut change = image(what, record, &record.new);
        change.annotations.insert(CAUSE, Some(format!("{}, passed at {} %", plan.cause, record.shares)));
        return Action::Change(change);
    }
    if let Some(reason) = failure(stable, now) {
        return Action::Change(turn_back(record, format!("{} does not take over: {reason}", stable.name)));
    }
    // Its own rolling update comes first; what it promises, it keeps for the size that it began with.
    if stable.is_settled
        && let Some(change) = resize(seen, record, plan, all_stable(record, stable), Aim::Forward)
    {
        return Action::Change(change);
    }
    if stable.size < record.total || !stable.is_ready() || canary.size > 0 {
        return Action::Wait(format!("promotion: {}, {}", told(stable), told(canary)));
    }
    let what = format!("{} runs {} on all {} pods", stable.name, record.new, record.total);
    Action::Change(Change::remember(what, &Record { phase: Phase::Promoted, ..record.clone() }))
}

// ## Returning => TakenBack
fn go_back(seen: &Seen, record: &Record, plan: &Plan, now: Timestamp) -> Action {
    let (stable, canary) = (&seen.stable, &seen.canary);
    if stable.image == record.new && record.new != record.old {
        let mut change = image(format!("{} gets {} back", stable.name, record.old), record, &record.old);
        change.annotations.insert(CAUSE, Some(format!("taken back: {}", reason(record))));
        return Action::Change(change);
    }
    if stable.image != record.old {
        return Action::Refuse(format!(
            "somebody gave {} the image {}: the way back leads to {}, so set that, or scale {} to 0 yourself",
            stable.name, stable.image, record.old, canary.name
        ));
    }
    if let Some(change) = resize(seen, record, plan, all_stable(record, stable), Aim::Back) {
        return Action::Change(change);
    }
    if let Some(late) = overdue(stable, now) {
        return Action::Refuse(format!(
            "the way back does not come to its end: {late}; {} pods of {} stay, so that somebody answers: mend {}",
            canary.size, canary.name, stable.name
        ));
    }
    if stable.size < record.total || !stable.is_ready() || canary.size > 0 {
        return Action::Wait(format!("way back: {}, {}", told(stable), told(canary)));
    }
    let what = format!("{} runs {} on all {} pods again", stable.name, record.old, record.total);
    Action::Change(Change::remember(what, &Record { phase: Phase::TakenBack, ..record.clone() }))
}

/// Stable is never made smaller than somebody has made it meanwhile.
fn all_stable(record: &Record, stable: &Track) -> Sizes {
    Sizes { stable: record.total.max(stable.size), canary: 0 }
}

fn image(what: String, record: &Record, image: &str) -> Change {
    let image = Some((record.container.clone(), image.to_owned()));
    Change { on: Side::Stable, what, replicas: None, image, annotations: [].into() }
}

fn resize(seen: &Seen, record: &Record, plan: &Plan, aim: Sizes, way: Aim) -> Option<Change> {
    let surge = plan.surge.of(record.total);
    let (on, size) = toward(&seen.stable, &seen.canary, aim, record.total, surge, way)?;
    let track = match on {
        Side::Stable => &seen.stable,
        Side::Canary => &seen.canary,
    };
    Some(Change::resize(on, format!("{} {} → {size}", track.name, track.size), size))
}

/// What a version is taken back for without looking at numbers.
fn failure(track: &Track, now: Timestamp) -> Option<String> {
    track.trouble.clone().or_else(|| overdue(track, now))
}

fn overdue(track: &Track, now: Timestamp) -> Option<String> {
    let unready = Duration::from_secs(track.overdue(now)?.as_secs());
    let pending = track.pending.as_ref().map_or(String::new(), |pending| format!(" ({pending})"));
    Some(format!(
        "{}: {} of {} pods were ready after {}{pending}",
        track.name,
        track.ready,
        track.size,
        humantime::format_duration(unready)
    ))
}

fn is_late(canary: &Track, plan: &Plan, now: Timestamp) -> bool {
    let since = canary.moved.unwrap_or(now);
    Duration::try_from(now.duration_since(since)).is_ok_and(|passed| passed > plan.timeout)
}

pub(super) fn told(track: &Track) -> String {
    let pending = if track.ready < track.size { track.pending.as_deref() } else { None };
    let pending = pending.map_or(String::new(), |pending| format!(" ({pending})"));
    format!("{} {}/{}{pending}", track.name, track.ready, track.size)
}

impl Surge {
    /// At least one, or nothing would move. Part of a pod is one, as in a Deployment.
    fn of(self, total: i32) -> i32 {
        let pods = match self {
            Surge::Pods(pods) => i64::from(pods),
            Surge::Percent(percent) => (i64::from(total) * i64::from(percent) + 99) / 100,
        };
        i32::try_from(pods).unwrap_or(i32::MAX - total).max(1)
    }
}
