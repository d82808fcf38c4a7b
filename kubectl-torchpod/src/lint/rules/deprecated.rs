//! What a cluster's version no longer has, advises against, or does not have yet.

use k8s_openapi::api::core::v1::Service;

use crate::lint::finding::Found;
use crate::lint::given::Version;
use crate::lint::rule::{Context, rules};
use crate::manifest::{Object, Path, Problem};

rules! {
    "api-removed", Error, api_removed,
        "The API server no longer knows this version of the kind",
        "Write the version that is named; the fields may have changed with it";
    "field-removed", Error, field_removed,
        "The field is gone from the API: a strict server refuses it, and any other drops it without a word",
        "Use what has taken its place";
    "endpoints-deprecated", Warning, endpoints_deprecated,
        "v1 Endpoints is deprecated since 1.33: clients are warned, and only 1 000 addresses fit",
        "Write an EndpointSlice with the label kubernetes.io/service-name";
    "annotation-deprecated", Warning, annotation_deprecated,
        "The annotation is ignored, or will be",
        "Use the field that has taken its place";
    "label-deprecated", Warning, label_deprecated,
        "Nodes lose the old label, and the pod then finds no node",
        "Use the label that has taken its place";
    "field-too-new", Error, field_too_new,
        "An older cluster does not know the field, or has it switched off, and does without it in silence",
        "Use what the version has, or name the cluster's with --kubernetes-version";
}

/// An apiVersion that is gone: its kinds, the version without it, and what to write.
const GONE: [(&str, &[&str], u32, &str); 21] = [
    ("extensions/v1beta1", &["Deployment", "DaemonSet", "ReplicaSet"], 16, "apps/v1"),
    ("extensions/v1beta1", &["NetworkPolicy"], 16, "networking.k8s.io/v1"),
    ("extensions/v1beta1", &["Ingress"], 22, "networking.k8s.io/v1"),
    ("apps/v1beta1", &["Deployment", "StatefulSet"], 16, "apps/v1"),
    ("apps/v1beta2", &["Deployment", "DaemonSet", "ReplicaSet", "StatefulSet"], 16, "apps/v1"),
    ("networking.k8s.io/v1beta1", &["Ingress", "IngressClass"], 22, "networking.k8s.io/v1"),
    ("policy/v1beta1", &["PodDisruptionBudget"], 25, "policy/v1"),
    ("policy/v1beta1", &["PodSecurityPolicy"], 25, "a namespace's label pod-security.kubernetes.io/enforce"),
    ("batch/v1beta1", &["CronJob"], 25, "batch/v1"),
    ("autoscaling/v2beta1", &["HorizontalPodAutoscaler"], 25, "autoscaling/v2"),
    ("autoscaling/v2beta2", &["HorizontalPodAutoscaler"], 26, "autoscaling/v2"),
    ("discovery.k8s.io/v1beta1", &["EndpointSlice"], 25, "discovery.k8s.io/v1"),
    ("events.k8s.io/v1beta1", &["Event"], 25, "events.k8s.io/v1"),
    ("node.k8s.io/v1beta1", &["RuntimeClass"], 25, "node.k8s.io/v1"),
    ("scheduling.k8s.io/v1beta1", &["PriorityClass"], 22, "scheduling.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment"], 22, "storage.k8s.io/v1"),
    ("storage.k8s.io/v1beta1", &["CSIStorageCapacity"], 27, "storage.k8s.io/v1"),
    (
        "rbac.authorization.k8s.io/v1beta1",
        &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
        22,
        "rbac.authorization.k8s.io/v1",
    ),
    ("apiextensions.k8s.io/v1beta1", &["CustomResourceDefinition"], 22, "apiextensions.k8s.io/v1"),
    (
        "flowcontrol.apiserver.k8s.io/v1beta2",
        &["FlowSchema", "PriorityLevelConfiguration"],
        29,
        "flowcontrol.apiserver.k8s.io/v1",
    ),
    (
        "flowcontrol.apiserver.k8s.io/v1beta3",
        &["FlowSchema", "PriorityLevelConfiguration"],
        32,
        "flowcontrol.apiserver.k8s.io/v1",
    ),
];

/// A field's last keys, the version without it, and what is there instead.
const REMOVED: [(&[&str], u32, &str); 1] = [(
    &["spec", "topologyKeys"],
    22,
    "trafficDistribution: PreferSameNode or PreferSameZone, and internalTrafficPolicy: Local for the node alone",
)];

/// An annotation's beginning and what is there instead.
const ANNOTATIONS: [(&str, &str); 5] = [
    ("seccomp.security.alpha.kubernetes.io/", "securityContext.seccompProfile"),
    ("container.seccomp.security.alpha.kubernetes.io/", "securityContext.seccompProfile"),
    ("container.apparmor.security.beta.kubernetes.io/", "securityContext.appArmorProfile"),
    ("scheduler.alpha.kubernetes.io/critical-pod", "priorityClassName"),
    ("kubernetes.io/ingress.class", "spec.ingressClassName"),
];

const LABELS: [(&str, &str); 5] = [
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
];

/// The first minor version without a kind, and what to write instead.
pub(super) fn gone(api_version: &str, kind: &str) -> Option<(u32, &'static str)> {
    let row = GONE.iter().find(|(version, kinds, ..)| *version == api_version && kinds.contains(&kind));
    row.map(|(_, _, minor, instead)| (*minor, *instead))
}

/// The version without a field, and what is there instead.
pub(super) fn removed(path: &Path) -> Option<(u32, &'static str)> {
    REMOVED.iter().find(|(keys, ..)| path.ends_with(keys)).map(|(_, minor, instead)| (*minor, *instead))
}

fn api_removed(context: &Context<'_>) -> Vec<Found> {
    let objects = context
        .cluster
        .objects
        .iter()
        .copied()
        .filter_map(|object| Some((object, gone(&object.api_version, &object.kind)?)));
    let removed = objects.filter(|(_, (minor, _))| *minor <= context.given.version.minor);
    let what = |object: &Object, minor: u32, instead: &str| {
        format!("{} {} is gone since {}: {instead}", object.api_version, object.kind, Version { minor })
    };
    removed
        .map(|(object, (minor, instead))| Found::at(&object.place().key("apiVersion"), what(object, minor, instead)))
        .collect()
}

fn field_removed(context: &Context<'_>) -> Vec<Found> {
    let problems = context.cluster.problems.iter().filter_map(|(spot, problem)| match problem {
        Problem::Unknown { path, .. } => Some((spot, path, removed(path)?)),
        _ => None,
    });
    let what = |path: &Path, minor, instead: &str| format!("{path} is gone since {}: {instead}", Version { minor });
    problems
        .map(|(spot, path, (minor, instead))| Found { spot: spot.clone(), what: what(path, minor, instead) })
        .collect()
}

fn endpoints_deprecated(context: &Context<'_>) -> Vec<Found> {
    if context.given.version < (Version { minor: 33 }) {
        return Vec::new();
    }
    let objects = context.cluster.objects.iter();
    let endpoints = objects.filter(|object| object.api_version == "v1" && object.kind == "Endpoints");
    endpoints.map(|object| Found::at(&object.place().key("kind"), "v1 Endpoints is deprecated since 1.33")).collect()
}

fn annotation_deprecated(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    let roots = context.cluster.objects.iter().map(|object| object.place());
    let templates = context.cluster.workloads.iter().filter(|workload| workload.object.kind != "Pod");
    for place in roots.chain(templates.map(crate::cluster::Workload::template)) {
        let annotations = place.key("metadata.annotations");
        for entry in annotations.node().map(crate::manifest::Node::entries).unwrap_or_default() {
            if let Some((_, instead)) = ANNOTATIONS.iter().find(|(old, _)| entry.key.starts_with(old)) {
                found.push(Found::at(&annotations.label(&entry.key), format!("{instead} has taken its place")));
            }
        }
    }
    found
}

fn label_deprecated(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for workload in &context.cluster.workloads {
        let place = workload.pod_place().key("nodeSelector");
        for key in workload.pod.node_selector.iter().flatten().map(|(key, _)| key) {
            if let Some((_, instead)) = LABELS.iter().find(|(old, _)| old == key) {
                found.push(Found::at(&place.label(key), format!("{instead} has taken its place")));
            }
        }
        let spreads = workload.pod.topology_spread_constraints.iter().flatten().enumerate();
        for (index, spread) in spreads {
            if let Some((_, instead)) = LABELS.iter().find(|(old, _)| *old == spread.topology_key) {
                let place = workload.pod_place().item("topologySpreadConstraints", index).key("topologyKey");
                found.push(Found::at(&place, format!("{instead} has taken its place")));
            }
        }
    }
    found
}

fn field_too_new(context: &Context<'_>) -> Vec<Found> {
    let version = context.given.version;
    let mut found = Vec::new();
    let mut needs = |minor, place: &crate::manifest::Place<'_>, what: &str| {
        if version < (Version { minor }) {
            found.push(Found::at(place, format!("{what} needs {}, and this is for {version}", Version { minor })));
        }
    };
    for container in context.cluster.containers() {
        if container.pre_stop().is_some_and(|hook| hook.sleep.is_some()) {
            needs(30, &container.place.key("lifecycle.preStop.sleep"), "preStop.sleep");
        }
    }
    for workload in &context.cluster.workloads {
        for (index, container) in workload.pod.init_containers.iter().flatten().enumerate() {
            if container.restart_policy.is_some() {
                let place = workload.pod_place().item("initContainers", index).key("restartPolicy");
                needs(29, &place, "a container's restartPolicy");
            }
        }
        for (index, volume) in workload.pod.volumes.iter().flatten().enumerate() {
            if volume.image.is_some() {
                needs(35, &workload.pod_place().item("volumes", index).key("image"), "an image volume");
            }
        }
    }
    for (object, service) in context.cluster.all::<Service>() {
        let spec = service.spec.as_ref().and_then(|spec| spec.traffic_distribution.as_deref());
        let minor = match spec {
            Some("PreferSameNode" | "PreferSameZone") => 34,
            Some(_) => 31,
            None => continue,
        };
        needs(minor, &object.place().key("spec.trafficDistribution"), "this trafficDistribution");
    }
    found
}
