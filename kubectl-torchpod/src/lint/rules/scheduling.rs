//! Whether pods find a node, and the right one.

use k8s_openapi::api::core::v1::PodAffinityTerm;

use super::resources::gpus;
use crate::cluster::{Workload, matches, spelt};
use crate::lint::finding::Found;
use crate::lint::rule::{Context, rules};
use crate::manifest::Place;

rules! {
    "anti-affinity-blocks-surge", Warning, blocks_surge,
        "A new pod needs a node or zone without an old one: where there are no more of them than pods, the rollout \
         hangs",
        "Prefer instead of require, spread with topologySpreadConstraints, or let maxUnavailable make room";
    "anti-affinity-misses-self", Warning, misses_self,
        "The term does not select the pods that carry it, so that nothing keeps them apart",
        "Let labelSelector name labels of the pod itself";
    "spread-misses-self", Warning, spread_misses_self,
        "The constraint does not count the pods that carry it, so that it spreads nothing",
        "Let labelSelector name labels of the pod itself";
    "spread-counts-revisions", Info, spread_counts_revisions,
        "In a rollout the old pods are counted, too, so that the new ones end up unevenly",
        "Add matchLabelKeys: [pod-template-hash]";
    "gpu-toleration-missing", Info, toleration_missing,
        "GPU nodes are often tainted with nvidia.com/gpu:NoSchedule, where this pod would wait for ever",
        "Tolerate the key nvidia.com/gpu with operator: Exists";
}

/// Terms of required anti-affinity among pods that have their own selector, with their places.
fn terms<'a>(workload: &'a Workload<'_>) -> impl Iterator<Item = (Place<'a>, &'a PodAffinityTerm)> {
    let affinity = workload.pod.affinity.as_ref().and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let required = affinity.and_then(|anti| anti.required_during_scheduling_ignored_during_execution.as_ref());
    let key = "affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution";
    required.into_iter().flatten().enumerate().map(move |(index, term)| (workload.pod_place().item(key, index), term))
}

/// Whether a term keeps a workload's pods from each other.
fn means_self(term: &PodAffinityTerm, workload: &Workload<'_>) -> bool {
    term.namespaces.is_none() && term.label_selector.as_ref().is_some_and(|selector| matches(selector, workload.labels))
}

fn blocks_surge(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for workload in &context.cluster.workloads {
        let Some(rollout) = workload.rollout().filter(|rollout| rollout.unavailable == 0 && rollout.replicas > 0)
        else {
            continue;
        };
        // With matchLabelKeys, old and new pods may share a node.
        let own = terms(workload).filter(|(_, term)| means_self(term, workload) && term.match_label_keys.is_none());
        found.extend(own.map(|(place, term)| {
            let what = format!(
                "{} pods and {} more in a rollout, each needs a {} of its own",
                rollout.replicas, rollout.surge, term.topology_key
            );
            Found::at(&place, what)
        }));
    }
    found
}

fn misses_self(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for workload in &context.cluster.workloads {
        // A term that means somebody else in the input keeps clear of them.
        let namespace = workload.object.namespace.as_deref();
        for (place, term) in
            terms(workload).filter(|(_, term)| term.namespaces.is_none() && term.namespace_selector.is_none())
        {
            let Some(selector) = term.label_selector.as_ref() else { continue };
            let near = selector.match_labels.iter().flatten().all(|(key, _)| workload.labels.contains_key(key));
            if near && !matches(selector, workload.labels) && context.cluster.matched(namespace, selector).is_empty() {
                let what = format!("the pod's labels are {}", spelt(workload.labels));
                found.push(Found::at(&place.key("labelSelector"), what));
            }
        }
    }
    found
}

fn spread_misses_self(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for workload in &context.cluster.workloads {
        for (index, spread) in workload.pod.topology_spread_constraints.iter().flatten().enumerate() {
            let place = workload.pod_place().item("topologySpreadConstraints", index);
            let what = match &spread.label_selector {
                None => "without a labelSelector nothing is counted".to_owned(),
                Some(selector) if !matches(selector, workload.labels) => {
                    format!("the pod's labels are {}", spelt(workload.labels))
                }
                Some(_) => continue,
            };
            found.push(Found::at(&place.key("labelSelector"), what));
        }
    }
    found
}

fn spread_counts_revisions(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for workload in context.cluster.workloads.iter().filter(|workload| workload.deployment().is_some()) {
        for (index, spread) in workload.pod.topology_spread_constraints.iter().flatten().enumerate() {
            let own = spread.label_selector.as_ref().is_some_and(|selector| matches(selector, workload.labels));
            if own && spread.match_label_keys.is_none() {
                let place = workload.pod_place().item("topologySpreadConstraints", index);
                found.push(Found::at(
                    &place,
                    format!("pods of all revisions are spread over {} together", spread.topology_key),
                ));
            }
        }
    }
    found
}

fn toleration_missing(context: &Context<'_>) -> Vec<Found> {
    let tolerates = |workload: &Workload<'_>| {
        workload
            .pod
            .tolerations
            .iter()
            .flatten()
            .filter(|one| matches!(one.effect.as_deref(), None | Some("" | "NoSchedule")))
            .any(|one| one.key.as_deref().is_none_or(|key| key == "nvidia.com/gpu"))
    };
    let lost = context.cluster.workloads.iter().filter(|workload| gpus(workload) > 0 && !tolerates(workload));
    lost.map(|workload| Found::at(&workload.pod_place(), "a pod with a GPU, without a toleration for nvidia.com/gpu"))
        .collect()
}
