//! Whether a Deployment can be rolled out, and what its callers notice.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::resources::gpus;
use crate::cluster::{Workload, matches, spelt};
use crate::lint::finding::Found;
use crate::lint::rule::{Context, rules};
use crate::manifest::Object;

rules! {
    "selector-labels-mismatch", Error, selector_labels,
        "An API server refuses a controller that would not find the pods it makes",
        "Give the template every label that the selector asks for; a selector cannot be changed later";
    "rollout-without-room", Error, without_room,
        "An API server refuses maxSurge and maxUnavailable of 0: no pod could be added or taken away",
        "Raise one of them: maxSurge for availability, maxUnavailable where there is no room for one more";
    "recreate-with-rolling-update", Error, recreate_with_rolling,
        "An API server refuses rollingUpdate beside type: Recreate, such as a patch leaves it behind",
        "Leave rollingUpdate out, or let the patch set it to null";
    "progress-deadline-too-short", Error, deadline_too_short,
        "An API server refuses progressDeadlineSeconds that is not above minReadySeconds",
        "Raise progressDeadlineSeconds";
    "rollout-takes-all-down", Warning, takes_all_down,
        "All pods may be taken away at once, so that every rollout is an outage",
        "Lower maxUnavailable; with 0 and a maxSurge of 1, new pods come before old ones go";
    "rollout-needs-spare-gpu", Warning, needs_spare_gpu,
        "A new pod needs a GPU before an old one gives its own away: without a spare one the rollout hangs",
        "Set maxSurge: 0 and maxUnavailable: 1, or type: Recreate, or keep a GPU spare";
    "autoscaler-beside-replicas", Warning, autoscaler_beside_replicas,
        "Every apply sets the number of pods back to what is written, against the autoscaler",
        "Leave replicas out";
    "image-tag-moves", Warning, image_tag_moves,
        "A tag such as latest means another image tomorrow, so that pods of one revision differ and undo brings \
         nothing back",
        "Name a version, or a digest";
}

fn deployments<'a>(context: &'a Context<'_>) -> impl Iterator<Item = (&'a Object, &'a Deployment)> {
    context.cluster.all::<Deployment>()
}

fn selector<'a>(workload: &Workload<'a>) -> Option<&'a LabelSelector> {
    let object = workload.object;
    let of = object.typed::<Deployment>().map(|one| &one.spec.selector);
    let of = of.or_else(|| object.typed::<StatefulSet>().map(|one| &one.spec.selector));
    let of = of.or_else(|| object.typed::<DaemonSet>().map(|one| &one.spec.selector));
    of.or_else(|| object.typed::<ReplicaSet>().map(|one| &one.spec.selector))
}

fn selector_labels(context: &Context<'_>) -> Vec<Found> {
    let check = |workload: &Workload<'_>| {
        let asked = selector(workload)?;
        let empty = asked.match_labels.as_ref().is_none_or(std::collections::BTreeMap::is_empty)
            && asked.match_expressions.is_none();
        // Where there is no selector at all, `field-missing` tells.
        let place = workload.object.place().key("spec.selector");
        place.node()?;
        let labels = if workload.labels.is_empty() { "none".to_owned() } else { spelt(workload.labels) };
        let what = match (&asked.match_labels, empty) {
            (_, true) => "the selector is empty".to_owned(),
            (Some(wanted), _) => {
                format!("the selector asks for {}, and the template's labels are {labels}", spelt(wanted))
            }
            (None, _) => format!("the selector's expressions do not match the template's labels, {labels}"),
        };
        (empty || !matches(asked, workload.labels)).then(|| Found::at(&place, what))
    };
    context.cluster.workloads.iter().filter_map(check).collect()
}

fn without_room(context: &Context<'_>) -> Vec<Found> {
    let zero = |value: &IntOrString| {
        matches!(value, IntOrString::Int(0)) || matches!(value, IntOrString::String(text) if text == "0%")
    };
    let check = |(object, deployment): (&Object, &Deployment)| {
        let rolling = deployment.spec.strategy.as_ref()?.rolling_update.as_ref()?;
        let both = rolling.max_surge.as_ref().is_some_and(zero) && rolling.max_unavailable.as_ref().is_some_and(zero);
        let place = object.place().key("spec.strategy.rollingUpdate");
        both.then(|| Found::at(&place, "maxSurge and maxUnavailable are both 0"))
    };
    deployments(context).filter_map(check).collect()
}

fn recreate_with_rolling(context: &Context<'_>) -> Vec<Found> {
    let check = |(object, deployment): (&Object, &Deployment)| {
        let strategy = deployment.spec.strategy.as_ref()?;
        let both = strategy.type_.as_deref() == Some("Recreate") && strategy.rolling_update.is_some();
        both.then(|| {
            Found::at(&object.place().key("spec.strategy.rollingUpdate"), "rollingUpdate beside type: Recreate")
        })
    };
    deployments(context).filter_map(check).collect()
}

fn deadline_too_short(context: &Context<'_>) -> Vec<Found> {
    let check = |(object, deployment): (&Object, &Deployment)| {
        let deadline = deployment.spec.progress_deadline_seconds.unwrap_or(600);
        let ready = deployment.spec.min_ready_seconds.unwrap_or(0);
        let key = if deployment.spec.progress_deadline_seconds.is_some() {
            "spec.progressDeadlineSeconds"
        } else {
            "spec.minReadySeconds"
        };
        let what = format!("progressDeadlineSeconds is {deadline}, and minReadySeconds {ready}");
        (deadline <= ready).then(|| Found::at(&object.place().key(key), what))
    };
    deployments(context).filter_map(check).collect()
}

fn takes_all_down(context: &Context<'_>) -> Vec<Found> {
    let check = |workload: &Workload<'_>| {
        let rollout = workload.rollout()?;
        let written = workload.deployment()?.spec.strategy.as_ref()?.rolling_update.as_ref()?;
        let bound = rollout.replicas > 0 && rollout.unavailable >= rollout.replicas && workload.scaler.is_none();
        let what = format!("{} of {} pods may be missing", rollout.unavailable, rollout.replicas);
        let place = workload.object.place().key("spec.strategy.rollingUpdate.maxUnavailable");
        // With no room for a second GPU, one pod that makes room for its successor is meant.
        let meant = rollout.surge == 0 && gpus(workload) > 0;
        (bound && written.max_unavailable.is_some() && !meant).then(|| Found::at(&place, what))
    };
    context.cluster.workloads.iter().filter_map(check).collect()
}

fn needs_spare_gpu(context: &Context<'_>) -> Vec<Found> {
    let check = |workload: &Workload<'_>| {
        let rollout = workload.rollout().filter(|rollout| rollout.unavailable == 0 && rollout.replicas > 0)?;
        let each = gpus(workload);
        let what = format!(
            "a rollout of {} pods keeps all of them and needs {each} more GPU{} for each of {} new",
            rollout.replicas,
            if each == 1 { "" } else { "s" },
            rollout.surge
        );
        (each > 0).then(|| Found::at(&workload.object.place().key("spec.strategy"), what))
    };
    context.cluster.workloads.iter().filter_map(check).collect()
}

fn autoscaler_beside_replicas(context: &Context<'_>) -> Vec<Found> {
    let scaled = context.cluster.workloads.iter().filter(|workload| workload.replicas.is_some());
    let scaled = scaled.filter_map(|workload| Some((workload, workload.scaler.as_ref()?)));
    scaled
        .map(|(workload, scaler)| {
            let what = format!("replicas is written, and {} decides it", scaler.object.label());
            Found::at(&workload.object.place().key("spec.replicas"), what)
        })
        .collect()
}

fn image_tag_moves(context: &Context<'_>) -> Vec<Found> {
    let moving = context.cluster.all_containers().filter_map(|container| {
        let image = container.spec.image.as_deref().filter(|image| !image.is_empty())?;
        let name = image.rsplit('/').next()?;
        let tag = name.split_once(':').map(|(_, tag)| tag);
        let what = match tag {
            _ if image.contains('@') => return None,
            Some("latest") => format!("{image} has the tag latest"),
            Some(_) => return None,
            None => format!("{image} has no tag, which means latest"),
        };
        Some(Found::at(&container.place.key("image"), what))
    });
    moving.collect()
}
