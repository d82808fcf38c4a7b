//! Two Deployments of one application behind one Service: blue and green, stable and canary.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::core::v1::Service;

use crate::cluster::{Labels, Workload, spelt};
use crate::lint::finding::Found;
use crate::lint::rule::{Context, rules};
use crate::manifest::Object;

rules! {
    "blue-green-matches-none", Error, blue_green_none,
        "The Service has no endpoints: every request is refused",
        "Let the selector name blue or green, as the pods' label does";
    "blue-green-matches-both", Warning, blue_green_both,
        "Requests go to both versions at once, and there is nothing to switch",
        "Let the selector name the version that shall serve";
    "canary-misses-track", Warning, canary_misses_track,
        "One of the tracks gets no request, so that the canary proves nothing",
        "Let the selector name only the labels that both tracks share";
}

const BLUE_GREEN: [&str; 2] = ["blue", "green"];
const CANARY: [&str; 2] = ["canary", "stable"];

/// Two workloads that differ in the value of one label, and in what they say there.
struct Pair<'a> {
    key: &'a str,
    /// What both have.
    shared: Labels,
}

/// The pairs of a namespace, and which of them share a label.
#[derive(Default)]
struct Pairs<'a> {
    all: Vec<Pair<'a>>,
    sharing: HashMap<(String, String), Vec<usize>>,
}

impl<'a> Pairs<'a> {
    /// Those whose values of some label are these two.
    fn new(context: &'a Context<'_>, namespace: Option<&str>, values: [&str; 2]) -> Pairs<'a> {
        let mut sides: BTreeMap<(&str, String), (Labels, [bool; 2])> = BTreeMap::new();
        for workload in context.cluster.in_namespace(namespace) {
            for (key, value) in workload.labels {
                let Some(side) = values.iter().position(|one| one == value) else { continue };
                let rest = without(workload.labels, key);
                let app = rest.iter().find(|(key, _)| is_name(key)).map_or_else(|| spelt(&rest), |(_, app)| app.clone());
                // A version changes with the track, and is shared by neither.
                let entry = sides.entry((key, app)).or_insert_with(|| (rest.clone(), [false; 2]));
                entry.0.retain(|key, value| rest.get(key) == Some(value));
                entry.1[side] = true;
            }
        }
        let mut pairs = Pairs::default();
        for ((key, _), (shared, _)) in sides.into_iter().filter(|(_, (_, sides))| *sides == [true, true]) {
            for (label, value) in &shared {
                pairs.sharing.entry((label.clone(), value.clone())).or_default().push(pairs.all.len());
            }
            pairs.all.push(Pair { key, shared });
        }
        pairs
    }

    /// Those that a selector asks for, by what they share and perhaps by their side.
    fn of(&self, selector: &Labels) -> impl Iterator<Item = &Pair<'a>> {
        let labels = selector.iter().map(|(key, value)| (key.clone(), value.clone()));
        let candidates: BTreeSet<usize> = labels.filter_map(|label| self.sharing.get(&label)).flatten().copied().collect();
        candidates.into_iter().map(|index| &self.all[index]).filter(|pair| {
            selector.iter().all(|(key, value)| key == pair.key || pair.shared.get(key) == Some(value))
        })
    }
}

fn is_name(key: &str) -> bool {
    ["app", "app.kubernetes.io/name", "name"].contains(&key)
}

fn without(labels: &Labels, key: &str) -> Labels {
    labels.iter().filter(|(one, _)| *one != key).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Services that ask for what a pair shares, and perhaps for one side.
fn each(
    context: &Context<'_>,
    values: [&str; 2],
    what: impl Fn(&Pair<'_>, &Labels, &[&Workload<'_>]) -> Option<String>,
) -> Vec<Found> {
    let mut found = Vec::new();
    let mut known = HashMap::new();
    for (object, service) in context.cluster.all::<Service>() {
        let Some(selector) = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else { continue };
        let namespace = object.namespace.as_deref();
        let pairs = known.entry(namespace).or_insert_with(|| Pairs::new(context, namespace, values));
        for pair in pairs.of(selector) {
            let selected = context.cluster.selected(namespace, selector);
            found.extend(what(pair, selector, &selected).map(|what| at_selector(object, pair.key, what)));
        }
    }
    found
}

fn at_selector(object: &Object, key: &str, what: String) -> Found {
    let selector = object.place().key("spec.selector");
    let exact = selector.label(key);
    Found::at(if exact.node().is_some() { &exact } else { &selector }, what)
}

pub(super) fn blue_green_none(context: &Context<'_>) -> Vec<Found> {
    each(context, BLUE_GREEN, |pair, selector, selected| {
        let value = selector.get(pair.key)?;
        selected.is_empty().then(|| format!("the selector asks for {}={value}, and the pods are blue or green", pair.key))
    })
}

fn blue_green_both(context: &Context<'_>) -> Vec<Found> {
    each(context, BLUE_GREEN, |pair, selector, _| {
        (!selector.contains_key(pair.key)).then(|| format!("the selector {} means blue and green alike", spelt(selector)))
    })
}

fn canary_misses_track(context: &Context<'_>) -> Vec<Found> {
    let narrow = each(context, CANARY, |pair, selector, _| {
        let value = selector.get(pair.key)?;
        Some(format!("the selector asks for {}={value} alone", pair.key))
    });
    // A Service for both beside one for each is how tracks are asked apart.
    let shared = each(context, CANARY, |pair, selector, _| (!selector.contains_key(pair.key)).then(String::new));
    if shared.is_empty() { narrow } else { Vec::new() }
}
