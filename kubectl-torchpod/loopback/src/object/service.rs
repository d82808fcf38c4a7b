//! `EndpointSlice`s: where a Service's pods are, and whether they are ready, which the rules lag behind.

use kubectl_torchpod::rollout::End;
use serde_json::{Value, json};

use super::json_of;
use crate::blueprint::spelt;
use crate::pod::Pod;
use crate::service::{Service, target};
use crate::state::State;

pub(super) fn slices(state: &State) -> Vec<Value> {
    state
        .services
        .iter()
        .filter(|service| !service.selector().is_empty())
        .map(|service| slice(service, state))
        .collect()
}

fn slice(service: &Service, state: &State) -> Value {
    let metadata = &service.object.metadata;
    let uid = metadata.uid.clone().unwrap_or_default();
    let number = u64::from_str_radix(&uid[24..], 16).unwrap_or(0);
    let pods: Vec<&Pod> =
        service.pods(&state.pods).filter(|pod| pod.end != End::Finished && pod.node.is_some()).collect();
    // A port that has a name may be another number in each pod; of one template all have the same.
    let ports = service.ports().iter().filter_map(|port| {
        let number = pods.first().and_then(|pod| pod.blueprint.port(&target(port)))?;
        Some(json!({
            "name": port.name.clone().unwrap_or_default(), "port": state.network.port(number), "protocol": "TCP",
            "appProtocol": port.app_protocol,
        }))
    });
    let endpoint = |pod: &&Pod| {
        let conditions = json!({
            "ready": pod.is_ready() && pod.stays(), "serving": pod.is_ready(), "terminating": !pod.stays(),
        });
        json!({
            "addresses": [pod.address.to_string()], "conditions": conditions,
            "nodeName": pod.node.map(|node| state.node_metadata[node].name.clone()),
            "targetRef": {"kind": "Pod", "namespace": pod.namespace(), "name": pod.name(), "uid": pod.metadata.uid},
        })
    };
    json!({
        "metadata": {
            "name": format!("{}-{}", service.name(), spelt(number.wrapping_mul(0x9e37_79b9) + 7, 5)),
            "namespace": service.namespace(), "uid": format!("3{}", &uid[1..]),
            "creationTimestamp": json_of(&metadata.creation_timestamp),
            "labels": {
                "kubernetes.io/service-name": service.name(),
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
            },
            "ownerReferences": [super::deployment::owner("v1", "Service", service.name(), &json!(uid))],
        },
        "addressType": "IPv4",
        "ports": ports.collect::<Vec<_>>(),
        "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
    })
}
