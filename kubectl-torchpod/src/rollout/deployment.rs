//! One synchronisation of the Deployment controller: from a spec and its ReplicaSets to new sizes. It looks at sizes and
//! reported numbers, never at pods, and does little at a time; the next report makes it come back.

use super::proportion;
use super::set::Set;
use super::spec::{Spec, Strategy, Template};

/// A ReplicaSet is given a size; it is made, where there is none of that template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    pub template: Template,
    pub size: i32,
}

/// What to do now, in this order; nothing, where the Deployment is as it should be or has to wait. `sets` are in the
/// order in which they were made. The caller applies every change with `Set::resize` or `Set::new`, also one that keeps
/// the size: it notes what the Deployment wanted.
pub fn reconcile(spec: &Spec, sets: &[Set]) -> Vec<Change> {
    if spec.paused || sets.iter().any(|set| set.size > 0 && set.desired != spec.replicas) {
        return proportion::scale(spec, sets);
    }
    match spec.strategy {
        Strategy::Recreate => recreate(spec, sets),
        Strategy::Rolling { .. } => rolling(spec, sets),
    }
}

// ## Recreate: old pods to none => their containers have ended => new pods
fn recreate(spec: &Spec, sets: &[Set]) -> Vec<Change> {
    let old = || sets.iter().filter(|set| set.template != spec.template);
    let to_zero: Vec<_> = old().filter(|set| set.size > 0).map(|set| set.to(0)).collect();
    if !to_zero.is_empty() || old().any(|set| set.status.unfinished() > 0) {
        return to_zero;
    }
    let new = sets.iter().find(|set| set.template == spec.template);
    let grown = new.is_some_and(|set| set.size == spec.replicas);
    if grown { Vec::new() } else { vec![Change { template: spec.template, size: spec.replicas }] }
}

// ## Rolling: the new one grows as far as the surge allows, or else the old ones shrink as far as the promise allows
fn rolling(spec: &Spec, sets: &[Set]) -> Vec<Change> {
    let mut sets = sets.to_vec();
    let mut changes = Vec::new();
    if let Some(new) = sets.iter().find(|set| set.template == spec.template) {
        let size = grown(spec, &sets, new.size);
        if size != new.size {
            return vec![new.to(size)];
        }
    } else {
        // Making one is no scaling: the old ones may shrink in the same breath.
        let new = Set::new(spec, grown(spec, &sets, 0));
        changes.push(new.to(new.size));
        sets.push(new);
    }
    changes.extend(shrunk(spec, &sets));
    changes
}

/// The size of the new set, once it has taken what the surge leaves.
fn grown(spec: &Spec, sets: &[Set], size: i32) -> i32 {
    if size >= spec.replicas {
        return spec.replicas;
    }
    let room = spec.most() - sets.iter().map(|set| set.size).sum::<i32>();
    size + room.max(0).min(spec.replicas - size)
}

fn shrunk(spec: &Spec, sets: &[Set]) -> Vec<Change> {
    let all: i32 = sets.iter().map(|set| set.size).sum();
    let new = sets.iter().find(|set| set.template == spec.template);
    let coming = new.map_or(0, |new| new.size - new.status.available);
    let most = all - spec.least() - coming;
    let mut old: Vec<Set> = sets.iter().filter(|set| set.template != spec.template && set.size > 0).cloned().collect();
    if old.is_empty() || most <= 0 {
        return Vec::new();
    }
    let before: Vec<i32> = old.iter().map(|set| set.size).collect();
    // Pods that do not serve go first: nobody misses them.
    let mut left = most;
    for set in &mut old {
        let broken = set.size - set.status.available;
        if broken < 0 {
            // A report from before the last shrinking: wait for the next one.
            return Vec::new();
        }
        let gone = broken.min(left);
        (set.size, left) = (set.size - gone, left - gone);
    }
    let mut left = sets.iter().map(|set| set.status.available).sum::<i32>() - spec.least();
    for set in &mut old {
        let gone = left.max(0).min(set.size);
        (set.size, left) = (set.size - gone, left - gone);
    }
    let changed = old.iter().zip(before).filter(|(set, before)| set.size != *before);
    changed.map(|(set, _)| set.to(set.size)).collect()
}

impl Set {
    pub(super) fn to(&self, size: i32) -> Change {
        Change { template: self.template, size }
    }
}
