//! A canary without a cluster: what it would do one after the other, if every pod served at once and every gate were
//! passed. It is the same decision, asked again and again; only the world is made up.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use super::canary::{Action, End, Gate, Plan, Seen, next};
use super::change::{Change, Side};
use super::record::Record;
use super::step::Step;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Change(Change),
    Gate(Step),
    End(End),
}

/// Everything in order, or why nothing would be done.
pub fn rehearse(mut seen: Seen, plan: &Plan, now: Timestamp) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    loop {
        let action = next(&seen, plan, now);
        seen.gate = None;
        match action {
            Action::Change(change) => {
                seen.apply(&change);
                seen.stable.serve();
                seen.canary.serve();
                parts.push(Part::Change(change));
            }
            Action::Wait(_) => {
                seen.stable.serve();
                seen.canary.serve();
            }
            Action::Watch(step) => {
                seen.gate = Some(Gate::Passed { said: "…".to_owned(), numbers: None });
                parts.push(Part::Gate(step));
            }
            Action::End(end) => {
                parts.push(Part::End(end));
                return Ok(parts);
            }
            Action::Refuse(why) => return Err(why),
        }
    }
}

impl Seen {
    /// What is seen at once, once the change was taken; pods come and go later.
    pub fn apply(&mut self, change: &Change) {
        let track = match change.on {
            Side::Stable => &mut self.stable,
            Side::Canary => &mut self.canary,
        };
        if let Some(size) = change.replicas {
            track.size = size;
            track.ready = track.ready.min(size);
        }
        if let Some((_, image)) = &change.image
            && *image != track.image
        {
            (track.image, track.ready) = (image.clone(), 0);
        }
        let annotations: BTreeMap<String, String> =
            change.annotations.iter().filter_map(|(key, value)| Some(((*key).to_owned(), value.clone()?))).collect();
        if let Ok(Some(record)) = Record::read(&annotations) {
            track.record = Some(record);
            self.is_under_way = true;
        }
    }
}
