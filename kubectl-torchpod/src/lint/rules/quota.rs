//! `ResourceQuota`: whom it refuses, and when it is used up.

use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec};

use super::limit::{filled, ranges};
use crate::cluster::{Container, Workload};
use crate::lint::finding::Found;
use crate::lint::rule::{Context, rules};
use crate::manifest::Object;
use crate::qos;
use crate::quantity::Quantity;

rules! {
    "quota-refuses-pod", Error, refuses_pod,
        "A namespace with a quota on a resource refuses every pod that does not say how much of it: the Deployment is \
         accepted, and its pods never come",
        "Give each container the request or limit, or the namespace a LimitRange with defaults";
    "quota-exceeded", Error, exceeded,
        "The last pods are refused, so that the Deployment never gets its number",
        "Raise the quota, or run fewer or smaller pods";
    "quota-without-room-to-roll", Warning, without_room,
        "A rollout adds pods before it takes old ones away, and the quota refuses them",
        "Leave room for maxSurge pods in the quota, or set maxSurge: 0";
    "quota-device-key", Warning, device_key,
        "Of a device only the requests are counted: any other key limits nothing",
        "Write requests.nvidia.com/gpu";
    "quota-key-unknown", Error, key_unknown,
        "An API server refuses a quota on something that it does not count",
        "Write a key that it counts, such as requests.cpu, limits.memory or count/deployments.apps";
}

/// What is counted under a name of its own. Everything else has a slash, or is a size of huge pages.
const KEYS: [&str; 20] = [
    "configmaps",
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
    "requests.storage",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
    "storage",
];

struct Quota<'a> {
    object: &'a Object,
    spec: &'a ResourceQuotaSpec,
    pods: Pods,
}

/// Which pods a quota counts.
#[derive(Clone, Copy)]
enum Pods {
    All,
    BestEffort,
    NotBestEffort,
}

/// Those of which can be told whom they count.
fn quotas<'a>(context: &'a Context<'_>) -> impl Iterator<Item = Quota<'a>> {
    context.cluster.all::<ResourceQuota>().filter_map(|(object, quota)| {
        let spec = quota.spec.as_ref().filter(|spec| spec.scope_selector.is_none())?;
        let scopes: Vec<&str> = spec.scopes.iter().flatten().map(String::as_str).collect();
        let pods = match scopes.as_slice() {
            [] => Pods::All,
            ["BestEffort"] => Pods::BestEffort,
            ["NotBestEffort"] => Pods::NotBestEffort,
            _ => return None,
        };
        Some(Quota { object, spec, pods })
    })
}

/// The workloads whose pods a quota counts.
fn counted_pods<'a>(context: &'a Context<'_>, quota: &Quota<'_>) -> impl Iterator<Item = &'a Workload<'a>> {
    let pods = quota.pods;
    let here = context.cluster.in_namespace(quota.object.namespace.as_deref());
    here.filter(move |workload| match pods {
        Pods::All => true,
        Pods::BestEffort => class(context, workload) == qos::Class::BestEffort,
        Pods::NotBestEffort => class(context, workload) != qos::Class::BestEffort,
    })
}

/// The class of the pods when the namespace's defaults have been filled in.
fn class(context: &Context<'_>, workload: &Workload<'_>) -> qos::Class {
    match qos::class(workload.pod) {
        qos::Class::BestEffort if ranges(context, workload).next().is_some() => qos::Class::Burstable,
        class => class,
    }
}

#[derive(Clone, Copy)]
enum Side {
    Request,
    Limit,
}

/// What a key of a quota counts. None, for what containers do not say, such as `pods`.
fn counted(key: &str) -> Option<(Side, &str)> {
    match key {
        "cpu" | "memory" => Some((Side::Request, key)),
        _ => {
            let request = key.strip_prefix("requests.").map(|name| (Side::Request, name));
            let counted = request.or_else(|| key.strip_prefix("limits.").map(|name| (Side::Limit, name)));
            counted.filter(|(_, name)| *name != "storage")
        }
    }
}

fn amount(context: &Context<'_>, container: &Container<'_>, side: Side, name: &str) -> Option<Quantity> {
    let (request, limit) = filled(context, container, name);
    match side {
        Side::Request => request,
        Side::Limit => limit,
    }
}

fn refuses_pod(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for quota in quotas(context) {
        // A pod without devices need not say so.
        let keys = quota.spec.hard.iter().flatten().filter_map(|(key, _)| counted(key).map(|counted| (key, counted)));
        let keys: Vec<_> = keys.filter(|(_, (_, name))| ["cpu", "memory"].contains(name)).collect();
        for workload in counted_pods(context, &quota) {
            for container in workload.all_containers() {
                let silent: Vec<&str> = keys
                    .iter()
                    .filter(|(_, (side, name))| amount(context, &container, *side, name).is_none())
                    .map(|(key, _)| key.as_str())
                    .collect();
                if !silent.is_empty() && workload.pod.resources.is_none() {
                    let what = format!(
                        "{} does not say {}, as {} wants; its pod is {}",
                        container.spec.name,
                        silent.join(", "),
                        quota.object.label(),
                        class(context, workload)
                    );
                    found.push(Found::at(&container.place, what));
                }
            }
        }
    }
    found
}

/// What the pods of a workload take of a quota's key, each.
fn each(context: &Context<'_>, workload: &Workload<'_>, key: &str) -> Quantity {
    if key == "pods" || key == "count/pods" {
        return Quantity::parse("1").unwrap_or_default();
    }
    let Some((side, name)) = counted(key) else { return Quantity::default() };
    let amounts = workload.containers().filter_map(|container| amount(context, &container, side, name));
    amounts.fold(Quantity::default(), Quantity::plus)
}

struct Use {
    pods: Quantity,
    /// What the largest rollout adds.
    surge: Quantity,
}

fn used(context: &Context<'_>, quota: &Quota<'_>, key: &str) -> Use {
    let mut used = Use { pods: Quantity::default(), surge: Quantity::default() };
    // Jobs come and go.
    for workload in counted_pods(context, quota).filter(|workload| workload.serves()) {
        let each = each(context, workload, key);
        // An autoscaler's most is not meant to be there all the time.
        let count = if workload.scaler.is_some() { workload.replicas } else { workload.most_replicas() };
        used.pods = used.pods.plus(each.times(count.unwrap_or(1)));
        let surge =
            workload.rollout().filter(|rollout| rollout.unavailable == 0).map_or(0, |rollout| rollout.surge.min(1));
        used.surge = used.surge.max(each.times(surge));
    }
    used
}

fn compare(context: &Context<'_>, what: impl Fn(&str, &Use, Quantity) -> Option<String>) -> Vec<Found> {
    let mut found = Vec::new();
    for quota in quotas(context) {
        for (key, hard) in quota.spec.hard.iter().flatten() {
            let Some(hard) = Quantity::of(hard) else { continue };
            let used = used(context, &quota, key);
            let place = quota.object.place().key("spec.hard").label(key);
            found.extend(what(key, &used, hard).map(|what| Found::at(&place, what)));
        }
    }
    found
}

fn exceeded(context: &Context<'_>) -> Vec<Found> {
    compare(context, |key, used, hard| {
        (used.pods > hard).then(|| format!("the pods here come to {} of {key}, and {hard} is the most", used.pods))
    })
}

fn without_room(context: &Context<'_>) -> Vec<Found> {
    compare(context, |key, used, hard| {
        let rolling = used.pods.plus(used.surge);
        (used.pods <= hard && rolling > hard)
            .then(|| format!("a rollout comes to {rolling} of {key}, and {hard} is the most"))
    })
}

fn device_key(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (object, quota) in context.cluster.all::<ResourceQuota>() {
        for key in quota.spec.iter().flat_map(|spec| spec.hard.iter().flatten()).map(|(key, _)| key) {
            let name = key.strip_prefix("limits.").unwrap_or(key);
            let device = name.contains('/') && !["requests.", "count/"].iter().any(|known| name.starts_with(known));
            // Storage classes are counted under names of their own.
            if device && !name.contains(".storageclass.storage.k8s.io/") {
                found.push(Found::at(&object.place().key("spec.hard").label(key), format!("{key} counts nothing")));
            }
        }
    }
    found
}

fn key_unknown(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (object, quota) in context.cluster.all::<ResourceQuota>() {
        for key in quota.spec.iter().flat_map(|spec| spec.hard.iter().flatten()).map(|(key, _)| key) {
            if !key.contains('/') && !key.contains("hugepages-") && !KEYS.contains(&key.as_str()) {
                let alike = |known: &&str| strsim::jaro_winkler(known, key);
                let nearest = KEYS.into_iter().max_by(|one, other| alike(one).total_cmp(&alike(other)));
                let what = format!("nothing is counted as {key}; {} is the nearest", nearest.unwrap_or_default());
                found.push(Found::at(&object.place().key("spec.hard").label(key), what));
            }
        }
    }
    found
}
