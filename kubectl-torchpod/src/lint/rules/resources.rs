//! What a container asks for and may use.

use crate::cluster::{Container, Workload};
use crate::lint::finding::Found;
use crate::lint::rule::{Context, rules};
use crate::qos;
use crate::quantity::Quantity;

rules! {
    "gpu-limit-differs", Error, gpu_limit,
        "An API server refuses a GPU that is only requested, or requested in another number than its limit",
        "Set the limit, and the request to the same number or not at all";
    "request-above-limit", Error, request_above_limit,
        "An API server refuses a request above its limit",
        "Raise the limit or lower the request";
    "qos-best-effort", Info, best_effort,
        "A pod without requests is the first to be evicted when its node runs short, and is placed as if it weighed \
         nothing",
        "Request the CPU and memory that it needs; the same as limits makes it Guaranteed";
    "memory-volume-unbounded", Info, memory_volume,
        "What lies in a Memory volume counts against the container's memory, up to the limit of all of it, and ends \
         in an OOM kill",
        "Give the volume a sizeLimit, and the container room for it";
}

const GPU: &str = "nvidia.com/gpu";

/// How many GPUs a pod takes.
pub(super) fn gpus(workload: &Workload<'_>) -> i32 {
    let each =
        workload.containers().filter_map(|container| container.limit(GPU).and_then(|limit| limit.parse::<i32>().ok()));
    each.sum()
}

fn each_gpu_resource<'a>(container: &Container<'a>) -> impl Iterator<Item = &'a String> {
    let resources = container.spec.resources.as_ref();
    let amounts = resources.into_iter().flat_map(|resources| [&resources.requests, &resources.limits]);
    // Devices of other makers, and parts of NVIDIA's, obey the same rule.
    let names = amounts.flatten().flat_map(|amounts| amounts.keys());
    names.filter(|name| name.contains('/') && !name.starts_with("kubernetes.io/"))
}

fn gpu_limit(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for container in context.cluster.all_containers() {
        for name in each_gpu_resource(&container) {
            let requests = container.place.key("resources.requests").label(name);
            let what = match (container.request(name), container.limit(name)) {
                (Some(_), None) => format!("{name} is requested without a limit"),
                (Some(request), Some(limit)) if Quantity::parse(request) != Quantity::parse(limit) => {
                    format!("{name} is requested {request} times, and its limit is {limit}")
                }
                _ => continue,
            };
            found.push(Found::at(&requests, what));
        }
    }
    found
}

fn request_above_limit(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for container in context.cluster.all_containers() {
        let Some(requests) = container.spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) else {
            continue;
        };
        for name in requests.keys().filter(|name| !name.contains('/')) {
            let (request, limit) = (container.request(name), container.limit(name));
            let amounts = request.and_then(Quantity::parse).zip(limit.and_then(Quantity::parse));
            if let Some((request, limit)) = amounts.filter(|(request, limit)| request > limit) {
                let place = container.place.key("resources.requests").label(name);
                found.push(Found::at(&place, format!("{name} of {request} is requested, and the limit is {limit}")));
            }
        }
    }
    found
}

fn best_effort(context: &Context<'_>) -> Vec<Found> {
    let light = context.cluster.workloads.iter().filter(|workload| !workload.pod.containers.is_empty());
    let light = light.filter(|workload| qos::class(workload.pod) == qos::Class::BestEffort);
    // A LimitRange of the namespace gives it requests.
    let light = light.filter(|workload| super::limit::ranges(context, workload).next().is_none());
    light.map(|workload| Found::at(&workload.pod_place().key("containers"), "this pod's class is BestEffort")).collect()
}

fn memory_volume(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for workload in &context.cluster.workloads {
        for (index, volume) in workload.pod.volumes.iter().flatten().enumerate() {
            let Some(empty) = &volume.empty_dir else { continue };
            if empty.medium.as_deref() == Some("Memory") && empty.size_limit.is_none() {
                let place = workload.pod_place().item("volumes", index).key("emptyDir");
                found.push(Found::at(&place, format!("the volume {} has no sizeLimit", volume.name)));
            }
        }
    }
    found
}
