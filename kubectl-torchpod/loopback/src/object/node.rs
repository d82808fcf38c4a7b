//! Nodes, and the budgets that are asked when one is drained.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kubectl_torchpod::rollout::Budget;
use serde_json::{Value, json};

use super::{json_of, typed};
use crate::history::Key;
use crate::state::{NODES, State};

pub(super) fn all(state: &State) -> Vec<Value> {
    (0..NODES).map(|node| shown(node, state)).collect()
}

fn shown(node: usize, state: &State) -> Value {
    let mut spec = json!({});
    if state.nodes.is_cordoned(node) {
        spec["unschedulable"] = json!(true);
    }
    let metadata = json_of(&state.node_metadata[node]);
    json!({
        "spec": spec,
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": metadata["name"]}],
            "capacity": {"pods": "110"},
            "allocatable": {"pods": "110"},
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status",
                "lastTransitionTime": metadata["creationTimestamp"],
            }],
            "nodeInfo": {
                "kubeletVersion": crate::api::VERSION, "operatingSystem": "linux", "architecture": "amd64",
                "osImage": "loopback", "kernelVersion": "", "containerRuntimeVersion": "process://1", "machineID": "",
                "systemUUID": "", "bootID": "", "kubeProxyVersion": "",
            },
        },
        "metadata": metadata,
    })
}

/// Labels and annotations may change, and whether new pods may come.
pub(super) fn replace(state: &mut State, key: &Key, value: &Value) {
    let known = state.node_metadata.iter().position(|one| one.name.as_ref() == Some(&key.name));
    let node = known.expect("it is there");
    let metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta = typed(value["metadata"].clone());
    state.node_metadata[node].labels = metadata.labels;
    state.node_metadata[node].annotations = metadata.annotations;
    if value["spec"]["unschedulable"] == true { state.nodes.cordon(node) } else { state.nodes.uncordon(node) }
}

pub(super) fn budgets(state: &State) -> Vec<Value> {
    let shown = |budget: &PodDisruptionBudget| {
        let mut value = json_of(budget);
        let (expected, healthy) = state.guarded(budget);
        let least = budget.spec.as_ref().and_then(Budget::of).map_or(0, |rule| rule.least(expected));
        value["status"] = json!({
            "observedGeneration": budget.metadata.generation, "expectedPods": expected, "currentHealthy": healthy,
            "desiredHealthy": least, "disruptionsAllowed": (healthy - least).max(0),
        });
        value
    };
    state.budgets.iter().map(shown).collect()
}

pub(super) fn replace_budget(state: &mut State, key: &Key, mut object: PodDisruptionBudget) {
    object.status = None;
    let known = state.budgets.iter_mut().find(|one| {
        one.metadata.namespace.as_ref() == Some(&key.namespace) && one.metadata.name.as_ref() == Some(&key.name)
    });
    let known = known.expect("it is there");
    if known.spec != object.spec {
        object.metadata.generation = known.metadata.generation.map(|generation| generation + 1);
    }
    *known = object;
}
