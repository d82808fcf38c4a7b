//! Whether nodes can be drained, and how much is left meanwhile.

use std::collections::HashMap;

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cluster::{Workload, scaled, spelt};
use crate::lint::finding::Found;
use crate::lint::rule::{Context, rules};
use crate::manifest::Object;

rules! {
    "budget-allows-nothing", Error, allows_nothing,
        "No pod may ever be evicted, so that a node with one of them cannot be drained, and upgrades hang",
        "Let at least one pod go: maxUnavailable: 1, or minAvailable below the number of pods";
    "budget-selects-nothing", Warning, selects_nothing,
        "The budget protects nobody",
        "Let the selector name labels that the pods have";
    "budget-limits-both", Error, limits_both,
        "An API server refuses minAvailable beside maxUnavailable",
        "Keep one: maxUnavailable follows when the number of pods changes";
    "budget-overlaps", Warning, overlaps,
        "The eviction API refuses to evict a pod that two budgets select, whatever they allow",
        "Let each pod be selected by one budget";
    "budget-guards-broken-pods", Info, guards_broken,
        "A pod that is not ready counts against the budget, so that a broken one blocks a node's drain",
        "Set unhealthyPodEvictionPolicy: AlwaysAllow";
}

struct Budget<'a> {
    object: &'a Object,
    spec: &'a PodDisruptionBudgetSpec,
    pods: Vec<&'a Workload<'a>>,
}

fn budgets<'a>(context: &'a Context<'_>) -> impl Iterator<Item = Budget<'a>> {
    context.cluster.all::<PodDisruptionBudget>().filter_map(|(object, budget)| {
        let spec = budget.spec.as_ref()?;
        // Without a selector, policy/v1 means nobody.
        let selector = spec.selector.as_ref();
        let pods = selector.map(|selector| context.cluster.matched(object.namespace.as_deref(), selector));
        Some(Budget { object, spec, pods: pods.unwrap_or_default() })
    })
}

fn allows_nothing(context: &Context<'_>) -> Vec<Found> {
    let check = |budget: &Budget<'_>| {
        let place = budget.object.place();
        if let Some(most) = &budget.spec.max_unavailable {
            let none = matches!(most, IntOrString::Int(0)) || matches!(most, IntOrString::String(text) if text == "0%");
            return none.then(|| Found::at(&place.key("spec.maxUnavailable"), "no pod may be missing"));
        }
        let Some(least) = &budget.spec.min_available else {
            let written =
                ["spec.minAvailable", "spec.maxUnavailable"].iter().any(|key| place.key(key).node().is_some());
            return (!written)
                .then(|| Found::at(&place.key("spec"), "neither minAvailable nor maxUnavailable is there"));
        };
        let all = matches!(least, IntOrString::String(text) if text == "100%");
        // Pods of which the input says nothing may come to any number.
        let total: Option<i32> = budget.pods.iter().map(|workload| workload.most_replicas()).sum();
        let total = total.filter(|total| *total > 0);
        let needed = total.and_then(|total| scaled(least, total, true));
        let blocked = all || total.zip(needed).is_some_and(|(total, needed)| needed >= total);
        let what = match (total, needed) {
            (Some(total), Some(needed)) => {
                format!("{needed} of {total} pod{} must be available", if total == 1 { "" } else { "s" })
            }
            _ => "all pods must be available".to_owned(),
        };
        blocked.then(|| Found::at(&place.key("spec.minAvailable"), what))
    };
    budgets(context).filter_map(|budget| check(&budget)).collect()
}

fn selects_nothing(context: &Context<'_>) -> Vec<Found> {
    let check = |budget: &Budget<'_>| {
        let place = budget.object.place().key("spec.selector");
        let Some(selector) = &budget.spec.selector else {
            return Some(Found::at(&place, "without a selector the budget means no pod"));
        };
        let labels = selector
            .match_labels
            .as_ref()
            .filter(|_| budget.pods.is_empty() && selector.match_expressions.is_none())?;
        let namespace = budget.object.namespace.as_deref();
        let near = context.cluster.nearly_selected(namespace, labels)?;
        if super::flagger::means_primary(context, namespace, labels) {
            return None;
        }
        let what = format!(
            "the selector {} matches no pod; those of {} have {}",
            spelt(labels),
            near.object.label(),
            spelt(near.labels)
        );
        Some(Found::at(&place, what))
    };
    budgets(context).filter_map(|budget| check(&budget)).collect()
}

fn limits_both(context: &Context<'_>) -> Vec<Found> {
    let both =
        budgets(context).filter(|budget| budget.spec.min_available.is_some() && budget.spec.max_unavailable.is_some());
    both.map(|budget| {
        Found::at(&budget.object.place().key("spec.maxUnavailable"), "maxUnavailable beside minAvailable")
    })
    .collect()
}

fn overlaps(context: &Context<'_>) -> Vec<Found> {
    let mut guarded: HashMap<_, &Object> = HashMap::new();
    let mut found = Vec::new();
    for budget in budgets(context) {
        let id = |object: &Object| std::ptr::from_ref(object);
        let other = budget.pods.iter().find_map(|pod| guarded.get(&id(pod.object)).map(|other| (pod, *other)));
        if let Some((pod, other)) = other {
            let what = format!("{} is selected by {}, too", pod.object.label(), other.label());
            found.push(Found::at(&budget.object.place().key("spec.selector"), what));
        }
        guarded.extend(budget.pods.iter().map(|pod| (id(pod.object), budget.object)));
    }
    found
}

fn guards_broken(context: &Context<'_>) -> Vec<Found> {
    let silent = budgets(context).filter(|budget| budget.spec.unhealthy_pod_eviction_policy.is_none());
    silent
        .map(|budget| Found::at(&budget.object.place().key("spec"), "unhealthyPodEvictionPolicy is not set"))
        .collect()
}
