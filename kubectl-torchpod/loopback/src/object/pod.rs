//! Pods, as clients read them.

use kubectl_torchpod::rollout::End;
use serde_json::{Value, json};

use super::deployment::{owner, set_uid};
use super::{Problem, Resource, json_of, typed};
use crate::deployment::index;
use crate::history::Key;
use crate::pod::{Exit, Pod};
use crate::state::State;

pub(super) fn all(state: &State) -> Vec<Value> {
    state.pods.iter().filter(|pod| pod.end != End::Finished).map(|pod| shown(pod, state)).collect()
}

fn shown(pod: &Pod, state: &State) -> Value {
    let deployment = &state.deployments[pod.deployment];
    let template = index(pod.template);
    let mut metadata = json_of(&pod.metadata);
    let set = (deployment.set_name(template), json!(set_uid(deployment, template)));
    metadata["ownerReferences"] = json!([owner("apps/v1", "ReplicaSet", &set.0, &set.1)]);
    metadata["generateName"] = json!(format!("{}-", set.0));
    if let Some((at, grace)) = pod.deleted {
        metadata["deletionTimestamp"] = json!(state.time(at + grace));
        metadata["deletionGracePeriodSeconds"] = json!(grace.as_secs());
    }
    let mut spec = json_of(pod.blueprint.spec());
    let mut status = json!({
        "phase": if pod.container.is_some() || !pod.exits.is_empty() { "Running" } else { "Pending" },
        "conditions": conditions(pod, state),
        "qosClass": "Burstable",
    });
    if let (Some(node), Some(bound)) = (pod.node, pod.bound) {
        spec["nodeName"] = json!(state.node_metadata[node].name);
        status["startTime"] = json!(state.time(bound));
        status["hostIP"] = json!("127.0.0.1");
        status["podIP"] = json!(pod.address.to_string());
        status["podIPs"] = json!([{"ip": pod.address.to_string()}]);
        status["containerStatuses"] = json!([container(pod, state)]);
    }
    json!({"metadata": metadata, "spec": spec, "status": status})
}

fn conditions(pod: &Pod, state: &State) -> Vec<Value> {
    let condition = |kind: &str, status: bool, at| json!({"type": kind, "status": if status { "True" } else { "False" }, "lastTransitionTime": state.time(at)});
    let Some(bound) = pod.bound else {
        let mut waits = condition("PodScheduled", false, pod.created);
        waits["reason"] = json!("Unschedulable");
        waits["message"] = json!("0/2 nodes are available: 2 node(s) were unschedulable.");
        return vec![waits];
    };
    let mut ready = ["Ready", "ContainersReady"].map(|kind| condition(kind, pod.is_ready(), pod.turned));
    if !pod.is_ready() {
        for one in &mut ready {
            one["reason"] = json!("ContainersNotReady");
            one["message"] = json!(format!("containers with unready status: [{}]", pod.blueprint.container().name));
        }
    }
    let [is_ready, containers] = ready;
    vec![condition("PodScheduled", true, bound), condition("Initialized", true, bound), is_ready, containers]
}

fn container(pod: &Pod, state: &State) -> Value {
    let last = pod.exits.last().map(|exit| ended(exit, state));
    let waiting = |reason: &str, message: &str| json!({"waiting": {"reason": reason, "message": message}});
    let (now, before) = match (&pod.container, &pod.waiting, last) {
        (Some(running), _, last) => (json!({"running": {"startedAt": state.time(running.since)}}), last),
        (None, Some(why), last) => (waiting(why.reason, &why.message), last),
        (None, None, Some(last)) => (last, None),
        (None, None, None) => (waiting("ContainerCreating", ""), None),
    };
    let image = pod.blueprint.image();
    let mut status = json!({
        "name": pod.blueprint.container().name, "image": image, "imageID": "", "ready": pod.is_ready(),
        "started": pod.container.as_ref().is_some_and(|running| running.rules.started()),
        "restartCount": pod.restarts, "state": now,
    });
    if let Some(before) = before {
        status["lastState"] = before;
    }
    if pod.container.is_some() {
        status["containerID"] = json!(format!("process://{}", pod.id));
        status["imageID"] = json!(image);
    }
    status
}

fn ended(exit: &Exit, state: &State) -> Value {
    // What a shell says of a signal: nobody but SIGKILL ends a server that was told to end.
    let code = exit.code.unwrap_or(137);
    json!({"terminated": {
        "exitCode": code, "reason": if code == 0 { "Completed" } else { "Error" },
        "startedAt": state.time(exit.since), "finishedAt": state.time(exit.at),
    }})
}

/// Labels and annotations may change, but for the labels by which its controller knows it.
pub(super) fn replace(state: &mut State, resource: &Resource, key: &Key, value: &Value) -> Result<(), Problem> {
    let id = state.pod_named(&key.namespace, &key.name).expect("it is there").id;
    let before = shown(&state.pods[id], state);
    let refused = |why: &str| Err(Problem::invalid(resource, &key.name, why));
    let written = super::default::admitted(resource, before, None)?;
    if value["spec"] != written["spec"] {
        return refused("spec: Forbidden: the cluster on loopback changes no pod that is there");
    }
    let metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta = typed(value["metadata"].clone());
    let labels = metadata.labels.unwrap_or_default();
    if pod_labels(&state.pods[id]).any(|(key, value)| labels.get(key) != Some(value)) {
        return refused("metadata.labels: Forbidden: the cluster on loopback lets no pod go from its ReplicaSet");
    }
    let pod = &mut state.pods[id];
    pod.metadata.labels = Some(labels);
    pod.metadata.annotations = metadata.annotations;
    Ok(())
}

fn pod_labels(pod: &Pod) -> impl Iterator<Item = (&String, &String)> {
    let own = pod.blueprint.labels();
    pod.labels().iter().filter(move |(key, _)| own.contains_key(*key))
}
