//! Whether a server has the time that it needs to start. The probe that fails for the last time kills the container, so
//! the budget is initialDelay + (failures − 1) × period.

use crate::cluster::{Container, Probe, ProbeKind};
use crate::lint::finding::Found;
use crate::lint::rule::{Context, rules};

rules! {
    "startup-probe-missing", Warning, startup_missing,
        "Without a startup probe, liveness must wait as long as the slowest start, and then as long for a hang, or it \
         kills servers that load",
        "Give the container a startup probe with the time to load, and liveness none of it";
    "startup-budget-too-short", Error, budget_too_short,
        "The kubelet kills the container before its model has been loaded, again and again",
        "Raise failureThreshold, so that failureThreshold × periodSeconds is about three times the measured time";
    "startup-budget-past-deadline", Warning, budget_past_deadline,
        "The rollout is declared failed while the kubelet still waits for the pod",
        "Raise progressDeadlineSeconds above the startup probe's time and minReadySeconds together";
    "initial-delay-spent", Info, initial_delay_spent,
        "initialDelaySeconds counts from the container's start, so that it is mostly over when the startup probe has passed, \
         and delays a fast start",
        "Leave it out: the startup probe does the waiting";
}

fn startup_missing(context: &Context<'_>) -> Vec<Found> {
    let containers = context.cluster.containers().filter(|container| container.workload.serves());
    let unguarded = containers.filter(|container| container.probe(ProbeKind::Startup).is_none());
    let liveness = unguarded.filter_map(|container| container.probe(ProbeKind::Liveness));
    let what = |probe: &Probe<'_>| {
        let name = &probe.container.spec.name;
        format!("{name} has {} s to start, and later as long to hang", probe.budget())
    };
    liveness.map(|probe| Found::at(&probe.place, what(&probe))).collect()
}

fn budget_too_short(context: &Context<'_>) -> Vec<Found> {
    let Some(load) = context.given.load_time else { return Vec::new() };
    let late = |container: &Container<'_>| {
        let killer = container.probe(ProbeKind::Startup).or_else(|| container.probe(ProbeKind::Liveness))?;
        let budget = killer.budget();
        let what = format!(
            "the {} probe kills after {budget} s, and the model takes {} to load",
            killer.kind,
            humantime::format_duration(std::time::Duration::from_secs(load.as_secs_f64().ceil() as u64)),
        );
        (load.as_secs_f64() > budget as f64).then(|| Found::at(&killer.place, what))
    };
    context.cluster.containers().filter(|container| container.workload.serves()).filter_map(|one| late(&one)).collect()
}

fn budget_past_deadline(context: &Context<'_>) -> Vec<Found> {
    let check = |container: &Container<'_>| {
        let deployment = container.workload.deployment()?;
        let deadline = i64::from(deployment.spec.progress_deadline_seconds.unwrap_or(600));
        let probe = container.probe(ProbeKind::Startup)?;
        let least = probe.budget() + i64::from(deployment.spec.min_ready_seconds.unwrap_or(0));
        let what = format!("it may take {least} s, and progressDeadlineSeconds is {deadline}");
        (least >= deadline).then(|| Found::at(&probe.place, what))
    };
    context.cluster.containers().filter_map(|container| check(&container)).collect()
}

fn initial_delay_spent(context: &Context<'_>) -> Vec<Found> {
    let behind = context.cluster.probes().filter(|probe| {
        probe.kind != ProbeKind::Startup && probe.container.probe(ProbeKind::Startup).is_some()
    });
    let delayed = behind.filter(|probe| probe.initial_delay() > 0);
    let what = |probe: &Probe<'_>| format!("{} s of delay behind a startup probe", probe.initial_delay());
    delayed.map(|probe| Found::at(&probe.place.key("initialDelaySeconds"), what(&probe))).collect()
}
