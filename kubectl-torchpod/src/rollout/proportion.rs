//! A Deployment that is scaled while two revisions run, or while it is paused: each ReplicaSet gets its part.

use super::deployment::Change;
use super::set::Set;
use super::spec::{Spec, Strategy};

pub(super) fn scale(spec: &Spec, sets: &[Set]) -> Vec<Change> {
    let active: Vec<&Set> = sets.iter().filter(|set| set.size > 0).collect();
    let new = sets.iter().find(|set| set.template == spec.template);
    let alone = match active[..] {
        [] => new.or(sets.last()),
        [only] => Some(only),
        _ => None,
    };
    if let Some(set) = alone {
        return if needs(spec, set, spec.replicas) { vec![set.to(spec.replicas)] } else { Vec::new() };
    }
    let saturated = new.is_some_and(|new| {
        new.desired == spec.replicas && new.size == spec.replicas && new.status.available == spec.replicas
    });
    if saturated {
        return active.iter().filter(|set| set.template != spec.template).map(|set| set.to(0)).collect();
    }
    match spec.strategy {
        Strategy::Rolling { .. } => shares(spec, active),
        Strategy::Recreate => Vec::new(),
    }
}

fn needs(spec: &Spec, set: &Set, size: i32) -> bool {
    set.size != size || set.desired != spec.replicas || set.most != spec.most()
}

/// Every set grows or shrinks as the whole does; the largest, and of equal ones the newest when growing and the oldest
/// when shrinking, takes what rounding left.
fn shares(spec: &Spec, mut sets: Vec<&Set>) -> Vec<Change> {
    let allowed = if spec.replicas > 0 { spec.most() } else { 0 };
    let all: i32 = sets.iter().map(|set| set.size).sum();
    let missing = allowed - all;
    if missing > 0 {
        sets.reverse();
    }
    sets.sort_by_key(|set| -set.size);
    let mut given = 0;
    let mut sizes: Vec<i32> = Vec::new();
    for set in &sets {
        let (part, left) = (fraction(spec, set, all), missing - given);
        let part = match missing {
            0 => 0,
            1.. => part.min(left),
            _ => part.max(left),
        };
        given += part;
        sizes.push(set.size + part);
    }
    sizes[0] = (sizes[0] + missing - given).max(0);
    let changes = sets.iter().zip(sizes).filter(|(set, size)| needs(spec, set, *size));
    changes.map(|(set, size)| set.to(size)).collect()
}

/// By how much a set changes, in proportion to what the whole was when it last got a size.
fn fraction(spec: &Spec, set: &Set, all: i32) -> i32 {
    if spec.replicas == 0 {
        return -set.size;
    }
    let before = if set.most > 0 { set.most } else { all };
    let size = f64::from(set.size) * f64::from(spec.most()) / f64::from(before.max(1));
    #[expect(clippy::cast_possible_truncation, reason = "a number of pods times a ratio of two")]
    let size = size.round() as i32;
    size - set.size
}
