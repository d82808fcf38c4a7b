//! Whether a server has the time that it needs to leave: preStop, then its drain, within the grace period.

use std::time::Duration;

use k8s_openapi::api::core::v1::LifecycleHandler;

use crate::cluster::{Container, Workload};
use crate::lint::finding::Found;
use crate::lint::rule::{Context, rules};
use crate::server::Server;

rules! {
    "grace-too-short", Warning, grace_too_short,
        "The kubelet kills the server in the middle of its drain, and requests that it would have answered are lost",
        "Let terminationGracePeriodSeconds be at least preStop + drain delay + drain timeout + 5 s";
    "pre-stop-outlasts-grace", Error, pre_stop_outlasts_grace,
        "preStop uses the grace period up, so that the server is killed two seconds after it hears that it shall end",
        "Raise terminationGracePeriodSeconds, or sleep less";
    "pre-stop-shell-missing", Error, pre_stop_shell_missing,
        "The image has no shell, so that preStop fails at once and traffic is not waited for",
        "Use preStop.sleep, which needs nothing in the image";
    "pre-stop-exec-sleep", Info, pre_stop_exec_sleep,
        "A sleep by exec needs the program in the image, and fails in silence where it is not",
        "Use preStop.sleep, on by default since 1.30";
    "drain-delay-missing", Warning, drain_delay_missing,
        "Routes to a pod that ends stay for about a second, and requests on them are refused",
        "Leave --drain-delay at 5s, or sleep in preStop";
}

/// What the kubelet gives without being asked, in seconds.
const GRACE: i64 = 30;
/// What a server may take beside its drain: to notice, to report, to exit.
const SLACK: i64 = 5;
/// Parts of names of images that are known to have no shell.
const SHELLLESS: [&str; 3] = ["distroless", "cgr.dev/chainguard", "/scratch"];

fn grace(workload: &Workload<'_>) -> i64 {
    workload.pod.termination_grace_period_seconds.unwrap_or(GRACE)
}

/// How long preStop takes, in seconds. None, where nobody can tell.
fn pre_stop(container: &Container<'_>) -> Option<i64> {
    let Some(hook) = container.pre_stop() else { return Some(0) };
    if let Some(sleep) = &hook.sleep {
        return Some(sleep.seconds);
    }
    sleeps(hook)
}

/// The seconds of a command that sleeps and does nothing else.
fn sleeps(hook: &LifecycleHandler) -> Option<i64> {
    let command = hook.exec.as_ref()?.command.as_ref()?.join(" ");
    let seconds = command.split_once("sleep ")?.1.trim_end_matches(['"', '\'']).trim();
    seconds.trim_end_matches('s').parse().ok()
}

/// Up to what it may take, in seconds.
fn drain(container: &Container<'_>, given: Option<Duration>) -> Option<i64> {
    let seconds = |time: Duration| i64::try_from(time.as_millis().div_ceil(1000)).ok();
    match Server::of(container) {
        Some(server) => seconds(server.drain_delay? + server.drain_timeout?),
        None => seconds(given?),
    }
}

fn serving<'a>(context: &'a Context<'_>) -> impl Iterator<Item = Container<'a>> {
    context.cluster.containers().filter(|container| container.workload.serves())
}

fn grace_too_short(context: &Context<'_>) -> Vec<Found> {
    let check = |container: &Container<'_>| {
        let (before, drain) = (pre_stop(container)?, drain(container, context.given.drain_time)?);
        let (needs, has) = (before + drain + SLACK, grace(container.workload));
        let what = format!(
            "{} may take {needs} s to leave ({before} preStop + {drain} drain + {SLACK}), and is killed after {has} s",
            container.spec.name
        );
        // Where preStop alone takes it all, a rule of its own tells.
        (has < needs && before < has)
            .then(|| Found::at(&container.workload.pod_place().key("terminationGracePeriodSeconds"), what))
    };
    serving(context).filter_map(|container| check(&container)).collect()
}

fn pre_stop_outlasts_grace(context: &Context<'_>) -> Vec<Found> {
    let check = |container: &Container<'_>| {
        let (before, has) = (pre_stop(container)?, grace(container.workload));
        let what = format!("preStop takes {before} s, and the pod has {has} s");
        (before > 0 && before >= has).then(|| Found::at(&container.place.key("lifecycle.preStop"), what))
    };
    context.cluster.containers().filter_map(|container| check(&container)).collect()
}

fn pre_stop_shell_missing(context: &Context<'_>) -> Vec<Found> {
    let check = |container: &Container<'_>| {
        let command = container.pre_stop()?.exec.as_ref()?.command.as_ref()?;
        let program = command.first()?.rsplit('/').next()?;
        let image = container.spec.image.as_deref().unwrap_or_default();
        let bare = SHELLLESS.iter().any(|part| image.contains(part)) && !image.contains("debug");
        let what = format!("preStop runs {program}, which {image} does not have");
        (bare && ["sh", "bash", "ash", "dash", "sleep"].contains(&program))
            .then(|| Found::at(&container.place.key("lifecycle.preStop.exec.command"), what))
    };
    context.cluster.containers().filter_map(|container| check(&container)).collect()
}

fn pre_stop_exec_sleep(context: &Context<'_>) -> Vec<Found> {
    let asleep = context.cluster.containers().filter(|container| container.pre_stop().and_then(sleeps).is_some());
    // `pre-stop-shell-missing` says it louder.
    let able = asleep.filter(|container| {
        let image = container.spec.image.as_deref().unwrap_or_default();
        !SHELLLESS.iter().any(|part| image.contains(part))
    });
    able.map(|container| Found::at(&container.place.key("lifecycle.preStop.exec"), "preStop sleeps by a command")).collect()
}

fn drain_delay_missing(context: &Context<'_>) -> Vec<Found> {
    let hasty = serving(context).filter(|container| {
        let delay = Server::of(container).and_then(|server| server.drain_delay);
        delay.is_some_and(|delay| delay < Duration::from_secs(2)) && container.pre_stop().is_none()
    });
    hasty
        .map(|container| Found::at(&container.place, format!("{} leaves without a delay or a preStop", container.spec.name)))
        .collect()
}
