//! The quality of service that Kubernetes will compute for a pod, which decides who is evicted first.

use std::fmt;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};

use crate::quantity::Quantity;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// Only CPU and memory count, of all containers, init containers too; a missing request is its limit. Where the pod
/// itself has resources, they alone count.
pub fn class(pod: &PodSpec) -> Class {
    if let Some(resources) = pod.resources.as_ref().filter(|resources| !is_empty(resources)) {
        return if is_guaranteed(Some(resources)) { Class::Guaranteed } else { Class::Burstable };
    }
    let all = || pod.containers.iter().chain(pod.init_containers.iter().flatten());
    if all().all(|container| container.resources.as_ref().is_none_or(is_empty)) {
        return Class::BestEffort;
    }
    let guaranteed = |container: &Container| is_guaranteed(container.resources.as_ref());
    if all().all(guaranteed) { Class::Guaranteed } else { Class::Burstable }
}

fn is_empty(resources: &ResourceRequirements) -> bool {
    ["cpu", "memory"].iter().all(|name| {
        let amounts = [&resources.requests, &resources.limits];
        let amounts = amounts.into_iter().flatten().filter_map(|amounts| Quantity::of(amounts.get(*name)?));
        amounts.into_iter().all(Quantity::is_zero)
    })
}

fn is_guaranteed(resources: Option<&ResourceRequirements>) -> bool {
    ["cpu", "memory"].iter().all(|name| {
        let amount =
            |amounts: &Option<std::collections::BTreeMap<String, _>>| Quantity::of(amounts.as_ref()?.get(*name)?);
        let limit = resources.and_then(|resources| amount(&resources.limits)).filter(|limit| !limit.is_zero());
        let request = resources.and_then(|resources| amount(&resources.requests));
        limit.is_some() && request.is_none_or(|request| Some(request) == limit)
    })
}

impl fmt::Display for Class {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(containers: &serde_json::Value) -> Class {
        class(&serde_json::from_value(serde_json::json!({ "containers": containers })).unwrap())
    }

    #[test]
    fn equal_requests_and_limits_of_cpu_and_memory_are_guaranteed() {
        let resources = serde_json::json!({
            "requests": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"},
            "limits": {"cpu": "4000m", "memory": "16384Mi", "nvidia.com/gpu": "1"},
        });
        assert_eq!(of(&serde_json::json!([{"name": "a", "resources": resources}])), Class::Guaranteed);
    }

    #[test]
    fn limits_alone_are_guaranteed_and_requests_alone_are_not() {
        let amounts = serde_json::json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(of(&serde_json::json!([{"name": "a", "resources": {"limits": amounts}}])), Class::Guaranteed);
        assert_eq!(of(&serde_json::json!([{"name": "a", "resources": {"requests": amounts}}])), Class::Burstable);
    }

    #[test]
    fn one_container_without_resources_makes_the_pod_burstable() {
        let amounts = serde_json::json!({"cpu": "1", "memory": "1Gi"});
        let containers = serde_json::json!([{"name": "a", "resources": {"limits": amounts}}, {"name": "b"}]);
        assert_eq!(of(&containers), Class::Burstable);
    }

    #[test]
    fn a_gpu_alone_is_best_effort() {
        assert_eq!(
            of(&serde_json::json!([{"name": "a", "resources": {"limits": {"nvidia.com/gpu": 1}}}])),
            Class::BestEffort
        );
        assert_eq!(of(&serde_json::json!([{"name": "a"}])), Class::BestEffort);
    }
}
