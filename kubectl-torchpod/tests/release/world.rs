//! Two Deployments without a cluster, for tables: sizes, images, and how many pods serve.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kubectl_torchpod::release::canary::{Action, Gate, Plan, Seen, Surge, next};
use kubectl_torchpod::release::change::Change;
use kubectl_torchpod::release::record::{Phase, Record};
use kubectl_torchpod::release::step::Sizes;
use kubectl_torchpod::release::track::Track;

pub(crate) const OLD: &str = "torchpod:1";
pub(crate) const NEW: &str = "torchpod:2";

pub(crate) fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

pub(crate) fn ago(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() - seconds).unwrap()
}

pub(crate) fn plan() -> Plan {
    Plan {
        container: "model".to_owned(),
        image: NEW.to_owned(),
        shares: "10,25,50,100".parse().unwrap(),
        surge: Surge::Percent(25),
        timeout: Duration::from_mins(15),
        cause: "kubectl torchpod canary web --image torchpod:2".to_owned(),
    }
}

pub(crate) fn track(name: &str, image: &str, size: i32) -> Track {
    Track {
        name: name.to_owned(),
        version: "7".to_owned(),
        size,
        image: image.to_owned(),
        ready: size,
        is_settled: true,
        moved: Some(ago(60)),
        unready_since: None,
        deadline: Duration::from_mins(10),
        trouble: None,
        pending: None,
        record: None,
    }
}

/// Before anything: 9 stable pods and one that was the canary of before.
pub(crate) fn before() -> Seen {
    let (stable, canary) = (track("web-stable", OLD, 9), track("web-canary", OLD, 1));
    Seen { stable, canary, gate: None, is_under_way: false }
}

pub(crate) fn record(phase: Phase) -> Record {
    Record {
        phase,
        container: "model".to_owned(),
        old: OLD.to_owned(),
        new: NEW.to_owned(),
        shares: plan().shares,
        total: 10,
        before: Sizes { stable: 9, canary: 1 },
        started: ago(600),
        verdict: None,
        numbers: None,
        reason: None,
    }
}

/// In the middle, with so many pods of each, all of them ready.
pub(crate) fn within(phase: Phase, stable: i32, canary: i32) -> Seen {
    let mut seen =
        Seen { stable: track("web-stable", OLD, stable), canary: track("web-canary", NEW, canary), ..before() };
    seen.canary.record = Some(record(phase));
    seen.is_under_way = true;
    seen
}

pub(crate) fn at(percent: u32) -> Phase {
    Phase::Stepping { percent }
}

pub(crate) fn passed() -> Gate {
    Gate::Passed { said: "no worse".to_owned(), numbers: None }
}

pub(crate) fn decided(seen: &Seen) -> Action {
    next(seen, &plan(), now())
}

/// What one change says it does; anything else is told as it is.
pub(crate) fn told(action: &Action) -> String {
    match action {
        Action::Change(change) => change.what.clone(),
        Action::Wait(what) => format!("wait: {what}"),
        Action::Watch(step) => format!("watch {} %", step.percent),
        Action::End(end) => format!("end: {end:?}"),
        Action::Refuse(why) => format!("refuse: {why}"),
    }
}

pub(crate) fn change(action: Action) -> Change {
    match action {
        Action::Change(change) => change,
        other => panic!("no change: {other:?}"),
    }
}
