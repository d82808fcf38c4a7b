//! Names by which one object means another, or one part of a pod another.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1 as core;

use crate::cluster::{Workload, is_slip};
use crate::flagger::Canary;
use crate::lint::finding::Found;
use crate::lint::rule::{Context, rules};
use crate::manifest::{Node, Place};

rules! {
    "reference-misspelt", Warning, misspelt,
        "What is named is probably not there: pods wait for it, an autoscaler scales nothing",
        "Correct the name, or that of the other object";
    "volume-missing", Error, volume_missing,
        "An API server refuses a container that mounts a volume that its pod does not have",
        "Add the volume to the pod, or correct the name";
}

/// Of more objects of a kind than this, one with nearly the name tells nothing.
const NEAR: usize = 100;

/// A name that means an object of a kind, in the namespace of whoever says it.
struct Reference<'a> {
    place: Place<'a>,
    kind: &'a str,
    name: &'a str,
}

fn misspelt(context: &Context<'_>) -> Vec<Found> {
    let mut known: BTreeMap<_, HashSet<&str>> = BTreeMap::new();
    for object in &context.cluster.objects {
        let namespace = if object.kind == "PriorityClass" { None } else { object.namespace.as_deref() };
        known.entry((object.kind.as_str(), namespace)).or_default().insert(object.name.as_str());
    }
    let check = |reference: Reference<'_>| {
        let Reference { place, kind, name } = reference;
        let namespace = if kind == "PriorityClass" { None } else { place.object.namespace.as_deref() };
        let names = known.get(&(kind, namespace)).filter(|names| !names.contains(name) && names.len() <= NEAR)?;
        let near = names.iter().filter(|known| is_slip(name, known)).min()?;
        Some(Found::at(&place, format!("there is no {kind}/{name} here, and {kind}/{near} is")))
    };
    references(context).into_iter().filter_map(check).collect()
}

fn references<'a>(context: &'a Context<'_>) -> Vec<Reference<'a>> {
    let mut all: Vec<_> = context.cluster.workloads.iter().flat_map(of_pod).collect();
    for (object, scaler) in context.cluster.all::<HorizontalPodAutoscaler>() {
        let target = &scaler.spec.scale_target_ref;
        let place = object.place().key("spec.scaleTargetRef.name");
        all.push(Reference { place, kind: &target.kind, name: &target.name });
    }
    for (object, canary) in context.cluster.all::<Canary>() {
        let target = &canary.spec.target_ref;
        let kind = target.kind.as_deref().unwrap_or("Deployment");
        all.push(Reference { place: object.place().key("spec.targetRef.name"), kind, name: &target.name });
    }
    for (object, set) in context.cluster.all::<StatefulSet>() {
        let name = set.spec.service_name.as_deref().unwrap_or_default();
        all.push(Reference { place: object.place().key("spec.serviceName"), kind: "Service", name });
    }
    all
}

fn of_pod<'a>(workload: &'a Workload<'_>) -> Vec<Reference<'a>> {
    let pod = workload.pod;
    let own = [
        ("serviceAccountName", "ServiceAccount", &pod.service_account_name),
        ("priorityClassName", "PriorityClass", &pod.priority_class_name),
    ];
    let own = own.into_iter().filter_map(|(key, kind, name)| {
        Some(Reference { place: workload.pod_place().key(key), kind, name: name.as_deref()? })
    });
    let volumes = pod.volumes.iter().flatten().enumerate().filter_map(|(index, volume)| {
        let (key, kind, name) = of_volume(volume)?;
        Some(Reference { place: workload.pod_place().item("volumes", index).key(key), kind, name })
    });
    let variables = workload.all_containers().flat_map(|container| {
        let variables = container.spec.env.iter().flatten().enumerate();
        let place = container.place;
        variables.filter_map(move |(index, variable)| {
            let (key, kind, name) = of_variable(variable)?;
            Some(Reference { place: place.item("env", index).key(key), kind, name })
        })
    });
    own.chain(volumes).chain(variables).collect()
}

type Named<'a> = (&'static str, &'static str, &'a str);

fn of_volume(volume: &core::Volume) -> Option<Named<'_>> {
    if let Some(map) = &volume.config_map {
        return Some(("configMap.name", "ConfigMap", &map.name));
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        return Some(("persistentVolumeClaim.claimName", "PersistentVolumeClaim", &claim.claim_name));
    }
    Some(("secret.secretName", "Secret", volume.secret.as_ref()?.secret_name.as_deref()?))
}

fn of_variable(variable: &core::EnvVar) -> Option<Named<'_>> {
    let from = variable.value_from.as_ref()?;
    if let Some(key) = &from.config_map_key_ref {
        return Some(("valueFrom.configMapKeyRef.name", "ConfigMap", &key.name));
    }
    Some(("valueFrom.secretKeyRef.name", "Secret", &from.secret_key_ref.as_ref()?.name))
}

fn volume_missing(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for workload in &context.cluster.workloads {
        let volumes = workload.pod_place().key("volumes");
        let name = |volume: &'_ Node| volume.get("name").and_then(Node::text).map(str::to_owned);
        let mut names: HashSet<_> = items(&volumes).iter().filter_map(name).collect();
        let claims = workload.object.place().key("spec.volumeClaimTemplates");
        names.extend(items(&claims).iter().filter_map(|claim| name(claim.get("metadata")?)));
        for container in workload.all_containers() {
            for (index, mount) in container.spec.volume_mounts.iter().flatten().enumerate() {
                if !names.contains(&mount.name) {
                    let place = container.place.item("volumeMounts", index).key("name");
                    found.push(Found::at(&place, format!("the pod has no volume {}", mount.name)));
                }
            }
        }
    }
    found
}

fn items<'a>(place: &Place<'a>) -> &'a [Node] {
    place.node().map(Node::items).unwrap_or_default()
}
