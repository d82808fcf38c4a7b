//! Who answers requests: a Service shares them evenly among ready pods, as far as connections are many and short.

use std::time::Duration;

use super::Plan;
use crate::rollout::simulation::{Step, View};

/// The share of each version, from a moment on.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Share {
    pub(super) at: Duration,
    /// By number of the ReplicaSet; of 1.
    pub(super) parts: Vec<f64>,
}

/// Differences below this are not told.
const LEAST: f64 = 0.005;
const MOST: usize = 500;

/// Every change of the shares that is worth telling.
pub(super) fn shares(plan: &Plan) -> Vec<Share> {
    let mut least = LEAST;
    loop {
        let all = told(plan, least);
        if all.len() <= MOST {
            return all;
        }
        least *= 2.0;
    }
}

fn told(plan: &Plan, least: f64) -> Vec<Share> {
    let mut all: Vec<Share> = Vec::new();
    let last = plan.outcome.steps.last().map(|step| step.at);
    for Step { at, sets, .. } in &plan.outcome.steps {
        let parts = parts(plan, sets);
        let differs = all.last().is_none_or(|share| differs(&share.parts, &parts, least))
            || (Some(*at) == last && all.last().is_some_and(|share| share.parts != parts));
        if !differs {
            continue;
        }
        match all.last_mut() {
            Some(share) if share.at == *at => share.parts = parts,
            _ => all.push(Share { at: *at, parts }),
        }
    }
    all
}

fn parts(plan: &Plan, sets: &[View]) -> Vec<f64> {
    let ready = |view: &View| if plan.shared.contains(&view.deployment) { view.ready } else { 0 };
    let all: i32 = sets.iter().map(ready).sum();
    sets.iter().map(|view| if all == 0 { 0.0 } else { f64::from(ready(view)) / f64::from(all) }).collect()
}

fn differs(one: &[f64], other: &[f64], least: f64) -> bool {
    let part = |parts: &[f64], index: usize| parts.get(index).copied().unwrap_or(0.0);
    (0..one.len().max(other.len())).any(|index| (part(one, index) - part(other, index)).abs() >= least)
}
