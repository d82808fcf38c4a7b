//! What keeps a pod from serving, in a sentence: what lasts, and what may pass.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

/// Reasons for which a container waits that no waiting will change.
const LASTING: [&str; 5] =
    ["CrashLoopBackOff", "CreateContainerConfigError", "ErrImageNeverPull", "ImagePullBackOff", "InvalidImageName"];

/// A container that has ended so often by itself will do so again, whatever the kubelet calls it at the moment.
const CRASHES: i32 = 3;

/// What a new version is taken back for at once.
pub(super) fn lasting(pod: &Pod) -> Option<String> {
    containers(pod).find_map(|container| {
        let reason = waiting(container).filter(|(reason, _)| LASTING.contains(&reason.as_str()));
        if reason.is_none() && (container.ready || container.restart_count < CRASHES) {
            return None;
        }
        let mut said = format!("pod {}: ", name(pod));
        match reason {
            Some((reason, message)) if reason.contains("Image") => said += &with(&reason, message),
            Some((reason, _)) => said += &reason,
            None => said += "its container keeps ending",
        }
        if container.restart_count > 0 {
            said = format!("{said} after {} restarts", container.restart_count);
        }
        said += &last_words(container);
        Some(said)
    })
}

/// Why a pod does not serve yet, where it says so.
pub(super) fn passing(pod: &Pod) -> Option<String> {
    let waits = containers(pod).find_map(waiting).filter(|(reason, _)| reason != "ContainerCreating");
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let unscheduled = || {
        let mut unscheduled =
            conditions.clone().filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
        unscheduled.next().map(|condition| ("no node takes it".to_owned(), condition.message.clone()))
    };
    let (reason, message) = waits.or_else(unscheduled)?;
    Some(format!("pod {}: {}", name(pod), with(&reason, message)))
}

/// Why there are no pods, such as a quota.
pub(super) fn no_pods(deployment: &Deployment) -> Option<String> {
    if deployment.spec.paused == Some(true) {
        return Some("it is paused: `kubectl rollout resume` lets it go on".to_owned());
    }
    let conditions = deployment.status.as_ref()?.conditions.as_ref()?;
    let is = |text: &Option<String>, wanted| text.as_deref() == Some(wanted);
    let failure = conditions.iter().find(|one| is(&one.type_, "ReplicaFailure") && is(&one.status, "True"));
    let failure = failure?;
    Some(with(failure.reason.as_deref().unwrap_or("pods cannot be made"), failure.message.clone()))
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    let status = pod.status.iter();
    status.flat_map(|status| {
        status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten())
    })
}

fn waiting(container: &ContainerStatus) -> Option<(String, Option<String>)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    Some((waiting.reason.clone()?, waiting.message.clone()))
}

/// How the container ended last, with what it left in its termination log.
fn last_words(container: &ContainerStatus) -> String {
    let ended = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    ended.map_or(String::new(), |ended| {
        let message = ended.message.as_deref().map(str::trim).filter(|message| !message.is_empty());
        format!(", exit code {}{}", ended.exit_code, message.map_or(String::new(), |said| format!(": {said}")))
    })
}

fn with(reason: &str, message: Option<String>) -> String {
    message.map_or(reason.to_owned(), |message| format!("{reason}: {}", message.trim()))
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}
