//! For programs: everything that the text says, as data. Times are seconds since the beginning.

use std::time::Duration;

use serde::Serialize;

use super::Plan;
use super::group::{Group, groups};
use super::traffic::shares;
use crate::rollout::simulation::What;

/// Steps beyond this are told together.
const STEPS: usize = 5_000;

#[derive(Serialize)]
struct Told<'a> {
    deployments: Vec<&'a str>,
    outcome: &'static str,
    /// Null, where it does not complete.
    duration_s: Option<f64>,
    /// When the deadline was said to have passed.
    deadline_s: Option<f64>,
    last_pod_gone_s: Option<f64>,
    min_available: i32,
    mean_available: f64,
    min_ready: i32,
    /// The promise.
    least_promised: i32,
    most_promised: i32,
    max_pods: i32,
    max_pods_with_terminating: i32,
    max_gpus: i64,
    notes: &'a [String],
    traffic: Vec<Traffic>,
    steps: Vec<Step>,
}

#[derive(Serialize)]
struct Traffic {
    t: f64,
    shares: Vec<Part>,
}

#[derive(Serialize)]
struct Part {
    name: String,
    share: f64,
}

#[derive(Serialize)]
struct Step {
    t: f64,
    what: String,
    /// New sizes of ReplicaSets, in their order.
    sizes: Vec<Size>,
    sets: Vec<Set>,
}

#[derive(Serialize)]
struct Size {
    name: String,
    from: i32,
    to: i32,
}

#[derive(Serialize)]
struct Set {
    name: String,
    size: i32,
    pods: i32,
    ready: i32,
    available: i32,
    terminating: i32,
}

pub fn json(plan: &Plan) -> String {
    let outcome = &plan.outcome;
    let specs = || plan.scenario.workloads.iter().map(|workload| &workload.spec);
    let told = Told {
        deployments: plan.deployments.iter().map(|told| told.name.as_str()).collect(),
        outcome: plan.end(),
        duration_s: outcome.duration.map(seconds),
        deadline_s: outcome.deadline.map(seconds),
        last_pod_gone_s: outcome.last_gone.map(seconds),
        min_available: outcome.min_available,
        mean_available: (outcome.mean_available * 1e3).round() / 1e3,
        min_ready: outcome.min_ready,
        least_promised: specs().map(crate::rollout::Spec::least).sum(),
        most_promised: specs().map(crate::rollout::Spec::most).sum(),
        max_pods: outcome.max_pods,
        max_pods_with_terminating: outcome.max_pods_with_terminating,
        max_gpus: outcome.max_gpus,
        notes: &plan.notes,
        traffic: traffic(plan),
        steps: groups(&outcome.steps, Duration::ZERO, STEPS).iter().map(|group| step(plan, group)).collect(),
    };
    serde_json::to_string_pretty(&told).unwrap_or_default() + "\n"
}

/// To the millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e3).round() / 1e3
}

fn traffic(plan: &Plan) -> Vec<Traffic> {
    let part = |(set, share): (usize, f64)| Part { name: plan.set(set), share: (share * 1e4).round() / 1e4 };
    let all = shares(plan).into_iter();
    all.map(|share| Traffic { t: seconds(share.at), shares: share.parts.into_iter().enumerate().map(part).collect() }).collect()
}

fn step(plan: &Plan, group: &Group<'_>) -> Step {
    let sizes = group.steps.iter().filter_map(|step| match step.what {
        What::Sized { set, from, to } => Some(Size { name: plan.set(set), from, to }),
        _ => None,
    });
    let sets = group.after().iter().map(|view| Set {
        name: plan.version(view.deployment, view.template.0).to_owned(),
        size: view.size,
        pods: view.pods,
        ready: view.ready,
        available: view.available,
        terminating: view.terminating,
    });
    Step { t: seconds(group.at), what: group.words(plan).join(", "), sizes: sizes.collect(), sets: sets.collect() }
}
