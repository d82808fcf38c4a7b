//! Deployments and their ReplicaSets, as clients read them.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment as Manifest;
use serde_json::{Value, json};

use super::json_of;
use crate::deployment::{Deployment, REVISION, Revision, index};
use crate::history::Key;
use crate::state::State;
use kubectl_torchpod::rollout::Set;

pub(super) fn all(state: &State) -> Vec<Value> {
    state.deployments.iter().filter(|one| !one.deleted).map(|one| shown(one, state)).collect()
}

fn shown(deployment: &Deployment, state: &State) -> Value {
    let mut value = json_of(&deployment.object);
    value["metadata"]["annotations"][REVISION] = json!(deployment.revision().to_string());
    let (all, updated) = (deployment.progress().all, deployment.progress().updated);
    let wanted: i32 = deployment.sets().map(|(set, ..)| set.size).sum();
    let condition = |(kind, stamped): (&str, &crate::deployment::Stamped)| {
        json!({
            "type": kind, "status": stamped.status, "reason": stamped.reason, "message": stamped.message,
            "lastUpdateTime": state.time(stamped.updated), "lastTransitionTime": state.time(stamped.turned),
        })
    };
    // Before a controller has seen it, there is nothing to tell.
    let conditions = deployment.conditions().into_iter().filter(|(_, stamped)| !stamped.reason.is_empty());
    let mut status = json!({
        "observedGeneration": deployment.observed, "replicas": all.replicas, "updatedReplicas": updated,
        "readyReplicas": all.ready, "availableReplicas": all.available, "terminatingReplicas": all.terminating,
        "unavailableReplicas": (wanted - all.available).max(0),
        "conditions": conditions.map(condition).collect::<Vec<_>>(),
    });
    leave_out_nothing(&mut status);
    value["status"] = status;
    value
}

/// An API server leaves out counts of nothing and lists of nothing.
fn leave_out_nothing(status: &mut Value) {
    let fields = status.as_object_mut().expect("a status is an object");
    fields.retain(|_, value| *value != 0 && value.as_array().is_none_or(|all| !all.is_empty()));
}

pub(super) fn sets(state: &State) -> Vec<Value> {
    let alive = state.deployments.iter().filter(|one| !one.deleted);
    alive.flat_map(|one| one.sets().map(|set| set_shown(one, set, state))).collect()
}

fn set_shown(
    deployment: &Deployment,
    (set, blueprint, revision): (&Set, &crate::blueprint::Blueprint, &Revision),
    state: &State,
) -> Value {
    let mut template = json_of(&blueprint.template);
    template["metadata"]["labels"] = json_of(&blueprint.labels());
    let mut selector = json_of(&deployment.object.spec.selector);
    selector["matchLabels"]["pod-template-hash"] = json!(blueprint.hash);
    let mut annotations = json_of(&deployment.set_annotations(revision));
    annotations["deployment.kubernetes.io/desired-replicas"] = json!(set.desired.to_string());
    annotations["deployment.kubernetes.io/max-replicas"] = json!(set.most.to_string());
    let mut status = json!({
        "observedGeneration": 1, "fullyLabeledReplicas": set.status.replicas, "readyReplicas": set.status.ready,
        "availableReplicas": set.status.available, "terminatingReplicas": set.status.terminating,
    });
    leave_out_nothing(&mut status);
    status["replicas"] = json!(set.status.replicas);
    let metadata = &deployment.object.metadata;
    json!({
        "metadata": {
            "name": deployment.set_name(index(set.template)), "namespace": metadata.namespace,
            "uid": set_uid(deployment, index(set.template)), "creationTimestamp": state.time(revision.made), "generation": 1,
            "labels": blueprint.labels(), "annotations": annotations,
            "ownerReferences": [owner("apps/v1", "Deployment", deployment.name(), &json!(metadata.uid))],
        },
        "spec": {
            "replicas": set.size, "minReadySeconds": deployment.object.spec.min_ready_seconds.unwrap_or(0),
            "selector": selector, "template": template,
        },
        "status": status,
    })
}

/// Its Deployment's, with the template's number in the middle.
pub(super) fn set_uid(deployment: &Deployment, template: usize) -> String {
    let uid = deployment.object.metadata.uid.as_deref().unwrap_or_default();
    format!("2{}-{template:04x}-{}", &uid[1..8], &uid[14..])
}

pub(super) fn owner(api_version: &str, kind: &str, name: &str, uid: &Value) -> Value {
    json!({
        "apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true, "blockOwnerDeletion": true,
    })
}

pub(super) fn replace(state: &mut State, key: &Key, mut object: Manifest, now: Duration) {
    // Its number is computed.
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove(REVISION);
    }
    object.status = None;
    let known = state
        .deployments
        .iter_mut()
        .find(|one| !one.deleted && one.namespace() == key.namespace && one.name() == key.name);
    known.expect("it is there").write(object, now);
}
