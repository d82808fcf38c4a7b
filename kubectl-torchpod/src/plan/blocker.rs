//! What stops the rollout, or would with a little less room, and what to do about it.

use super::Plan;
use crate::rollout::simulation::{End, Start};
use crate::rollout::{Apart, NoRoom, Strategy};

pub(super) fn blockers(plan: &Plan) -> Vec<String> {
    let mut notes = stopped(plan);
    if plan.outcome.waiting.is_empty() {
        notes.extend(near(plan));
    }
    notes
}

/// What stopped it.
fn stopped(plan: &Plan) -> Vec<String> {
    let outcome = &plan.outcome;
    let mut notes = Vec::new();
    for (deployment, why) in &outcome.waiting {
        let told = &plan.deployments[*deployment];
        let room = "maxSurge: 0 with maxUnavailable: 1, or type: Recreate, needs none";
        notes.push(match why {
            NoRoom::Gpu => format!("{} waits for a GPU that nobody gives away: keep one spare, or {room}", told.name),
            NoRoom::Apart => format!(
                "{} waits for a node without a pod of its own, as its required anti-affinity wants: add a node, prefer instead of require, or {room}",
                told.name
            ),
            NoRoom::Pods => format!("{} waits for a node: all are full or cordoned", told.name),
        });
    }
    if outcome.over_quota {
        notes.push("the namespace's quota refuses the pods that are missing: raise it, or set maxSurge: 0".to_owned());
    }
    if outcome.killed {
        let budget = plan.scenario.workloads.iter().filter_map(|one| one.probes.startup).map(|probe| {
            (probe.delay + probe.period * probe.failures.saturating_sub(1)).as_secs()
        });
        let budget = budget.max().unwrap_or(0);
        notes.push(format!(
            "the startup probe gives up {budget} s after the start, and the container begins anew: raise failureThreshold"
        ));
    }
    match (outcome.deadline, outcome.end) {
        (Some(_), End::Complete) => notes.push(
            "progressDeadlineSeconds pass before a new pod is ready, so that `kubectl rollout status` fails, and yet it goes on: raise it above the time of a start".to_owned(),
        ),
        (Some(_), End::Deadline) => notes.push(
            "nothing is lost, and nothing moves: `kubectl rollout undo` brings the old version back".to_owned(),
        ),
        _ => {}
    }
    notes
}

/// What it needs, where nobody said what there is.
fn near(plan: &Plan) -> Vec<String> {
    let mut notes = Vec::new();
    let running = |start: Start| start == Start::Running;
    let before: i64 = plan.scenario.workloads.iter().filter(|one| running(one.start)).map(|one| i64::from(one.spec.replicas) * i64::from(one.needs.gpus)).sum();
    if plan.outcome.max_gpus > before {
        let extra = plan.outcome.max_gpus - before;
        notes.push(format!("needs {extra} GPUs more than it has before: with none spare it waits for one"));
    }
    for (told, workload) in plan.deployments.iter().zip(&plan.scenario.workloads) {
        let surges = matches!(workload.spec.strategy, Strategy::Rolling { .. }) && workload.spec.surge() > 0;
        if workload.needs.apart == Apart::All && surges && workload.spec.unavailable() == 0 {
            let most = workload.spec.replicas + 1;
            notes.push(format!("{}: each pod wants a node of its own: with fewer than {most} nodes it stops", told.name));
        }
        let spec = &workload.spec;
        if let (Some(deadline), Some(startup)) = (spec.deadline, workload.probes.startup) {
            let budget = startup.delay + startup.period * startup.failures.saturating_sub(1) + spec.min_ready;
            if budget > deadline {
                notes.push(format!(
                    "{}: a start may take {} s, and progressDeadlineSeconds are {}",
                    told.name,
                    budget.as_secs(),
                    deadline.as_secs()
                ));
            }
        }
    }
    notes
}
