//! Flagger's canaries: what its newest fields are, and what it must not meet.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::cluster::{Labels, matches};
use crate::flagger::{Analysis, Canary, MetricTemplate};
use crate::lint::finding::Found;
use crate::lint::rule::{Context, rules};
use crate::manifest::{Object, Place};

rules! {
    "flagger-threshold-old", Warning, threshold_old,
        "A metric's threshold is deprecated: it cannot say whether more or less is better",
        "Write thresholdRange with min or max";
    "flagger-analysis-incomplete", Error, analysis_incomplete,
        "Flagger's schema refuses an analysis without interval and threshold, and without a weight or iterations there is no step",
        "Give interval, threshold, and stepWeight with maxWeight, or iterations";
    "flagger-owns-service", Error, owns_service,
        "Flagger makes and rewrites the Service of this name, and each apply turns its routing back",
        "Leave the Service out; spec.service describes it";
    "flagger-budget-misses-primary", Warning, budget_misses_primary,
        "The pods that serve are the primary's, whose label Flagger ends in -primary: the budget does not select them",
        "Let the budget select the label with -primary";
    "flagger-without-traffic", Info, without_traffic,
        "Without requests there are no numbers, and Flagger halts the canary and takes it back",
        "Add a webhook of type rollout that makes load";
    "flagger-template-missing", Warning, template_missing,
        "The analysis fails at a metric whose template is not there",
        "Give the MetricTemplate, or correct the name";
    "flagger-range-empty", Error, range_empty,
        "Flagger fails the metric or takes any value, since nothing says which are good",
        "Give thresholdRange a min or a max";
}

fn canaries<'a>(context: &'a Context<'_>) -> impl Iterator<Item = (&'a Object, &'a Canary)> {
    context.cluster.all::<Canary>()
}

/// The analysis of a canary, under its new or its old name.
fn analysis<'a>(object: &'a Object, canary: &'a Canary) -> Option<(Place<'a>, &'a Analysis)> {
    let new = canary.spec.analysis.as_ref().map(|analysis| (object.place().key("spec.analysis"), analysis));
    new.or_else(|| Some((object.place().key("spec.canaryAnalysis"), canary.spec.canary_analysis.as_ref()?)))
}

fn metrics<'a>(context: &'a Context<'_>) -> impl Iterator<Item = (&'a Object, Place<'a>, &'a crate::flagger::Metric)> {
    canaries(context).filter_map(|(object, canary)| Some((object, analysis(object, canary)?))).flat_map(
        |(object, (place, analysis))| {
            let metrics = analysis.metrics.iter().flatten().enumerate();
            metrics.map(move |(index, metric)| (object, place.item("metrics", index), metric))
        },
    )
}

fn threshold_old(context: &Context<'_>) -> Vec<Found> {
    let old = metrics(context).filter(|(_, _, metric)| metric.threshold.is_some());
    old.map(|(_, place, metric)| Found::at(&place.key("threshold"), format!("{} has a threshold", metric.name))).collect()
}

fn analysis_incomplete(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (object, canary) in canaries(context) {
        let Some((place, analysis)) = analysis(object, canary) else {
            if canary.spec.skip_analysis != Some(true) {
                found.push(Found::at(&object.place().key("spec"), "there is no analysis"));
            }
            continue;
        };
        let steps = analysis.step_weight.is_some() || analysis.step_weights.is_some() || analysis.iterations.is_some();
        let parts = [
            (analysis.interval.is_some(), "interval"),
            (analysis.threshold.is_some(), "threshold"),
            (steps, "stepWeight, stepWeights or iterations"),
        ];
        let missing: Vec<&str> = parts.iter().filter(|(there, _)| !there).map(|(_, name)| *name).collect();
        if !missing.is_empty() {
            found.push(Found::at(&place, format!("the analysis lacks {}", missing.join(" and "))));
        }
    }
    found
}

/// The name of the Service that Flagger makes.
fn apex(canary: &Canary) -> &str {
    canary.spec.service.get("name").and_then(serde_json::Value::as_str).unwrap_or(&canary.spec.target_ref.name)
}

fn owns_service(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (canary_object, canary) in canaries(context).filter(|(_, canary)| canary.spec.target_ref.kind.as_deref() != Some("Service")) {
        let services = context.cluster.all::<Service>().filter(|(object, _)| object.namespace == canary_object.namespace);
        let apex = apex(canary);
        let own = services.filter(|(object, _)| {
            let rest = object.name.strip_prefix(apex);
            rest.is_some_and(|rest| ["", "-primary", "-canary"].contains(&rest))
        });
        found.extend(own.map(|(object, _)| {
            Found::at(&object.place(), format!("{} is made by Flagger for {}", object.label(), canary_object.label()))
        }));
    }
    found
}

fn budget_misses_primary(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (canary_object, canary) in canaries(context) {
        let namespace = canary_object.namespace.as_deref();
        let target = |name: &str| name == canary.spec.target_ref.name;
        let Some(workload) = context.cluster.in_namespace(namespace).find(|one| one.deployment().is_some() && target(&one.object.name)) else {
            continue;
        };
        // The labels that Flagger looks at by default.
        let name = ["app", "name", "app.kubernetes.io/name"].into_iter().find(|key| workload.labels.contains_key(*key));
        let Some(name) = name else { continue };
        let mut primary: Labels = workload.labels.clone();
        primary.entry(name.to_owned()).and_modify(|value| *value = format!("{}-primary", canary.spec.target_ref.name));
        for (object, budget) in context.cluster.all::<PodDisruptionBudget>().filter(|(one, _)| one.namespace == canary_object.namespace) {
            let Some(selector) = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { continue };
            if matches(selector, workload.labels) && !matches(selector, &primary) {
                let what = format!("this selects the canary's pods, and not those of {name}={}-primary", canary.spec.target_ref.name);
                found.push(Found::at(&object.place().key("spec.selector"), what));
            }
        }
    }
    found
}

fn without_traffic(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (object, canary) in canaries(context) {
        let Some((place, analysis)) = analysis(object, canary) else { continue };
        let load = analysis.webhooks.iter().flatten().any(|hook| hook.r#type.as_deref().is_none_or(|kind| kind == "rollout"));
        if analysis.metrics.is_some() && !load {
            found.push(Found::at(&place, "nothing here makes requests while the canary is judged"));
        }
    }
    found
}

fn template_missing(context: &Context<'_>) -> Vec<Found> {
    let templates: Vec<_> = context.cluster.all::<MetricTemplate>().map(|(object, _)| object).collect();
    let mut found = Vec::new();
    for (object, place, metric) in metrics(context) {
        let Some(reference) = &metric.template_ref else { continue };
        let namespace = reference.namespace.as_ref().or(object.namespace.as_ref());
        let mut here = templates.iter().filter(|template| template.namespace.as_ref() == namespace).peekable();
        // Without any template in the input, they are somewhere else.
        if here.peek().is_some() && !here.any(|template| template.name == reference.name) {
            let what = format!("there is no MetricTemplate {} among those given", reference.name);
            found.push(Found::at(&place.key("templateRef.name"), what));
        }
    }
    found
}

fn range_empty(context: &Context<'_>) -> Vec<Found> {
    let empty = metrics(context).filter(|(_, _, metric)| {
        let bounded = metric.threshold_range.as_ref().is_some_and(|range| range.min.is_some() || range.max.is_some());
        !bounded && metric.threshold.is_none()
    });
    empty.map(|(_, place, metric)| Found::at(&place, format!("nothing says which values of {} are good", metric.name))).collect()
}
