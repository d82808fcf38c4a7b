//! What a cutover does next: from what is seen of the cluster to one action, like a canary. All that it changes is one
//! value of a Service's selector, and what it remembers stands on that Service.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::record::{CAUSE, MOVED, moved_at};
use super::track::Track;

type Labels = BTreeMap<String, String>;

/// The value of the selector before the last cutover.
const PREVIOUS: &str = "torchpod.dev/previous";
/// The key that was changed.
const KEY: &str = "torchpod.dev/selector-key";

/// A Service, and the one label by which it chooses between two Deployments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    pub service: String,
    pub version: String,
    pub key: String,
    /// What it selects now.
    pub value: String,
    /// What it selected before the last cutover, if there was one.
    pub previous: Option<String>,
    pub moved: Option<Timestamp>,
}

/// What there is.
#[derive(Clone, Debug)]
pub struct Seen {
    pub front: Front,
    /// The value that leads to the new one.
    pub to: String,
    pub new: Track,
    /// Who served before, where it still is there.
    pub old: Option<Track>,
    /// What the new one's pods answered, once they were asked.
    pub smoke: Option<Result<String, String>>,
    /// Addresses behind the Service: of the new one, and of anybody else.
    pub endpoints: (usize, usize),
    /// For how long no request has reached the old one.
    pub idle: Option<Duration>,
    /// Whether this very run has seen the Service select the new one.
    pub was_selected: bool,
}

#[derive(Clone, Debug)]
pub struct Plan {
    /// Whether the new one may have fewer pods than the old one.
    pub may_be_fewer: bool,
    /// Scale the old one to 0 once it was idle for so long.
    pub retire: Option<Duration>,
    pub cause: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the new one's pods something.
    Smoke,
    /// The one patch of the Service.
    Select {
        what: String,
        body: Value,
    },
    Wait(String),
    /// Look at the old one's counters.
    WatchOld,
    /// Scale the old one to 0.
    Retire {
        what: String,
        body: Value,
    },
    End(String),
    Refuse(String),
}

// ## selects the old one => the new one is ready => it answers => selects the new one => its pods are the endpoints
// ## => the old one is idle => has no pods
pub fn next(seen: &Seen, plan: &Plan, now: Timestamp) -> Action {
    let (front, new) = (&seen.front, &seen.new);
    if front.value == seen.to {
        return after(seen, plan, now);
    }
    if seen.was_selected {
        return Action::Refuse(format!(
            "somebody made {} select {}={} meanwhile",
            front.service, front.key, front.value
        ));
    }
    let old = seen.old.as_ref();
    if !new.is_ready() || new.size == 0 {
        let pending = new.trouble.as_ref().or(new.pending.as_ref());
        let pending = pending.map_or(String::new(), |pending| format!(" ({pending})"));
        return Action::Refuse(format!(
            "{} has {} of {} pods ready{pending}: cut over once it is complete (`kubectl rollout status deployment/{}`)",
            new.name, new.ready, new.size, new.name
        ));
    }
    if let Some(old) = old
        && new.size < old.size
        && !plan.may_be_fewer
    {
        return Action::Refuse(format!(
            "{} has {} pods, and {} has {}: scale it up first (`kubectl scale deployment {} --replicas={}`), or say --fewer-pods",
            new.name, new.size, old.name, old.size, new.name, old.size
        ));
    }
    match &seen.smoke {
        None => Action::Smoke,
        Some(Err(why)) => Action::Refuse(format!("{} does not answer as it should: {why}", new.name)),
        Some(Ok(_)) => {
            let what = format!("{} selects {}={}, and no longer {}", front.service, front.key, seen.to, front.value);
            Action::Select { what, body: select(front, &seen.to, &plan.cause, now) }
        }
    }
}

fn after(seen: &Seen, plan: &Plan, now: Timestamp) -> Action {
    let (of_new, others) = seen.endpoints;
    let pods = usize::try_from(seen.new.ready).unwrap_or(0);
    if of_new < pods.max(1) || others > 0 {
        return Action::Wait(format!("{}: {of_new} of {pods} new endpoints, {others} old ones", seen.front.service));
    }
    let front = &seen.front;
    let serves = format!("{} sends to {} ({}={})", front.service, seen.new.name, front.key, seen.to);
    let Some(old) = seen.old.as_ref().filter(|old| old.size > 0) else { return Action::End(serves) };
    let Some(idle) = plan.retire else {
        return Action::End(format!(
            "{serves}; {} keeps its {} pods for the way back, and clients that keep connections stay on it",
            old.name, old.size
        ));
    };
    if seen.idle.is_none_or(|been| been < idle) {
        return Action::WatchOld;
    }
    let what = format!("{}: no request for {}, {} → 0", old.name, humantime::format_duration(idle), old.size);
    let body = json!({
        "metadata": {"resourceVersion": old.version, "annotations": {MOVED: format!("{now:.0}")}},
        "spec": {"replicas": 0},
    });
    Action::Retire { what, body }
}

/// The way back: to what was selected before.
pub fn back(front: &Front, old: Option<&Track>, cause: &str, now: Timestamp) -> Result<(String, Value), String> {
    let Some(previous) = front.previous.as_ref().filter(|previous| **previous != front.value) else {
        return Err(format!("{} was not cut over: say where to go by `kubectl torchpod cutover --to`", front.service));
    };
    let Some(old) = old else {
        return Err(format!("nobody is left with {}={previous}: there is no way back", front.key));
    };
    if !old.is_ready() || old.size == 0 {
        return Err(format!(
            "{} has {} of {} pods ready: bring it up first (`kubectl scale deployment {} --replicas=…`), then come again",
            old.name, old.ready, old.size, old.name
        ));
    }
    let what = format!("{} selects {}={previous} again, and no longer {}", front.service, front.key, front.value);
    Ok((what, select(front, previous, cause, now)))
}

fn select(front: &Front, to: &str, cause: &str, now: Timestamp) -> Value {
    json!({
        "metadata": {
            "resourceVersion": front.version,
            "annotations": {
                PREVIOUS: front.value,
                KEY: front.key,
                MOVED: format!("{now:.0}"),
                CAUSE: cause,
            },
        },
        "spec": {"selector": {front.key.clone(): to}},
    })
}

impl Front {
    /// The Service as one that chooses by `key`.
    pub fn of(service: &Service, key: &str) -> Option<Front> {
        let selector = service.spec.as_ref()?.selector.as_ref()?;
        let annotations = service.metadata.annotations.clone().unwrap_or_default();
        let is_ours = annotations.get(KEY).is_some_and(|kept| kept == key);
        Some(Front {
            service: service.metadata.name.clone()?,
            version: service.metadata.resource_version.clone().unwrap_or_default(),
            key: key.to_owned(),
            value: selector.get(key)?.clone(),
            previous: annotations.get(PREVIOUS).filter(|_| is_ours).cloned(),
            moved: moved_at(&annotations),
        })
    }
}

/// The key of a selector whose other value would lead to pods with these labels: all others fit already.
pub fn switch(selector: &Labels, labels: &Labels) -> Option<String> {
    let mut odd = selector.iter().filter(|(key, value)| labels.get(*key) != Some(*value));
    let (Some((key, _)), None) = (odd.next(), odd.next()) else { return None };
    labels.contains_key(key).then(|| key.clone())
}

/// The annotation that names the key of the last cutover.
pub fn switched(service: &Service) -> Option<&str> {
    service.metadata.annotations.as_ref()?.get(KEY).map(String::as_str)
}
