//! Names that an API server refuses: with letters that they must not have, or twice in one list.

use std::collections::HashMap;

use crate::lint::finding::Found;
use crate::lint::rule::{Context, rules};
use crate::manifest::{Entry, Node, Object, Place};

rules! {
    "name-refused", Error, refused,
        "An API server refuses names and labels with letters that they must not have, such as _ or capitals in a name",
        "Write small letters, digits and - for names; a label's value may also have capitals, . and _ inside";
    "entry-repeated", Error, repeated,
        "An API server refuses two containers, volumes, mounts or ports of one name or number",
        "Give each its own";
}

/// Longest name of an object, of a container, and of a port.
const OBJECT: usize = 253;
const LABEL: usize = 63;
const PORT: usize = 15;

/// Small letters, digits and `-`, with neither of it at an end.
fn is_label(text: &str, longest: usize) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=longest).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_label_value(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ends = |edge: Option<char>| edge.is_none_or(|edge| edge.is_ascii_alphanumeric());
    text.len() <= LABEL && text.bytes().all(inner) && ends(text.chars().next()) && ends(text.chars().next_back())
}

/// Roles may have names such as `system:node`, addresses have colons, and what is not known here may have any.
fn takes_any(object: &Object) -> bool {
    let free = object.api_version.starts_with("rbac.") || object.kind == "IPAddress" || !object.is_known();
    free || object.name.is_empty()
}

fn is_object_name(object: &Object) -> bool {
    let part = |part: &str| is_label(part, OBJECT);
    match object.kind.as_str() {
        "Namespace" | "Service" => is_label(&object.name, LABEL),
        _ => object.name.len() <= OBJECT && object.name.split('.').all(part),
    }
}

fn refused(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for object in &context.cluster.objects {
        if !takes_any(object) && !is_object_name(object) {
            let what = format!("{:?} is no name for a {}", object.name, object.kind);
            found.push(Found::at(&object.place().key("metadata.name"), what));
        }
        found.extend(labels(&object.place()));
    }
    for workload in context.cluster.workloads.iter().filter(|workload| workload.object.kind != "Pod") {
        found.extend(labels(&workload.template()));
    }
    for container in context.cluster.all_containers() {
        if !is_label(&container.spec.name, LABEL) {
            let what = format!("{:?} is no name for a container", container.spec.name);
            found.push(Found::at(&container.place.key("name"), what));
        }
        for (index, port) in container.ports().iter().enumerate() {
            let letter = |name: &str| name.bytes().any(|byte| byte.is_ascii_lowercase());
            if let Some(name) = port.name.as_deref().filter(|name| !is_label(name, PORT) || !letter(name)) {
                let place = container.place.item("ports", index).key("name");
                found
                    .push(Found::at(&place, format!("{name:?} is no name for a port: it has up to {PORT} characters")));
            }
        }
    }
    found
}

/// Labels of what stands at a place, whose values are refused.
fn labels(place: &Place<'_>) -> Vec<Found> {
    let labels = place.key("metadata.labels");
    let entries = labels.node().map(Node::entries).unwrap_or_default();
    let wrong = |entry: &&Entry| entry.node.text().is_some_and(|value| !is_label_value(value));
    let what = |entry: &Entry| {
        let value = entry.node.text().unwrap_or_default();
        Found::at(&labels.label(&entry.key), format!("{value:?} is no value for a label"))
    };
    entries.iter().filter(wrong).map(what).collect()
}

fn repeated(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for workload in &context.cluster.workloads {
        let pod = workload.pod_place();
        found.extend(twice(&[pod.key("initContainers"), pod.key("containers")], &["name"]));
        found.extend(twice(&[pod.key("volumes")], &["name"]));
        for container in workload.all_containers() {
            found.extend(twice(&[container.place.key("ports")], &["name"]));
            found.extend(twice(&[container.place.key("volumeMounts")], &["mountPath"]));
        }
    }
    for object in context.cluster.objects.iter().filter(|object| object.kind == "Service" && object.is_known()) {
        found.extend(twice(&[object.place().key("spec.ports")], &["port", "protocol"]));
    }
    found
}

/// Items of lists that agree in these keys with one before; items without the first key agree with none.
fn twice(lists: &[Place<'_>], keys: &[&str]) -> Vec<Found> {
    let mut seen = HashMap::new();
    let mut found = Vec::new();
    for list in lists {
        for (index, item) in list.node().map(Node::items).unwrap_or_default().iter().enumerate() {
            let values = |key: &&str| item.get(key).map(|value| value.json().to_string());
            if keys.first().and_then(values).is_none() {
                continue;
            }
            // Where no protocol is, TCP is meant.
            let value: Vec<_> = keys.iter().map(|key| values(key).unwrap_or_else(|| "\"TCP\"".to_owned())).collect();
            let place = list.at(index).key(keys[0]);
            if let Some(first) = seen.insert(value.clone(), place.spot().span.start.line) {
                found.push(Found::at(&place, format!("{} {} is there before, on line {first}", keys[0], value[0])));
            }
        }
    }
    found
}
