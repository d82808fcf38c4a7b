//! What a strict API server would refuse by its schema alone, and what was not looked at.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Service;

use super::deprecated;
use crate::lint::finding::Found;
use crate::lint::rule::{Context, rules};
use crate::manifest::Problem;

rules! {
    "yaml-syntax", Error, yaml_syntax,
        "What stands behind the error is read by nobody",
        "Correct the YAML; a template must be rendered first, such as by `helm template`";
    "key-repeated", Error, key_repeated,
        "A strict parser refuses the file, and any other takes the last and drops the first without a word",
        "Keep one of them";
    "field-unknown", Error, field_unknown,
        "A strict API server refuses the object, and any other drops the field without a word",
        "Correct the spelling, or move the field to where it belongs";
    "field-missing", Error, field_missing,
        "An API server refuses an object that lacks a required field",
        "Add the field";
    "field-type", Error, field_type,
        "An API server refuses a value of another type than the field's",
        "Write the value as the field's type; a number or `yes` that is meant as a text needs quotes";
    "value-refused", Error, value_refused,
        "An API server refuses a value that the field does not take, although it is of the right type",
        "Write one that it takes; upper and lower case count, and amounts have units such as m, Mi and Gi";
    "kind-misspelt", Error, kind_misspelt,
        "The API has no such kind in this version",
        "Write the kind and apiVersion that are meant";
    "kind-unchecked", Info, kind_unchecked,
        "The schema of a custom resource is in the cluster, not here",
        "Nothing; `kubectl apply --dry-run=server` asks the cluster";
    "manifest-unrecognised", Info, manifest_unrecognised,
        "A document without apiVersion and kind is no object, such as a fragment or a file of values",
        "Give the whole object if it is meant to be one";
    "kustomize-skipped", Info, kustomize_skipped,
        "Kustomize's own files are no objects, and its patches mean nothing without their base",
        "Check what comes out: `kubectl kustomize DIR | kubectl torchpod lint -`";
    "object-repeated", Warning, object_repeated,
        "The second of two objects with one name overwrites the first when both are applied",
        "Give them different names or namespaces";
    "file-apart", Info, file_apart,
        "Files with an object of the same name are taken for alternatives: what is said across files does not hold \
         for them",
        "Give only files that are applied together";
}

/// What a text was written for each problem that is meant.
fn each(context: &Context<'_>, what: impl Fn(&Problem) -> Option<String>) -> Vec<Found> {
    let problems = context.cluster.problems.iter();
    problems.filter_map(|(spot, problem)| Some(Found { spot: spot.clone(), what: what(problem)? })).collect()
}

fn yaml_syntax(context: &Context<'_>) -> Vec<Found> {
    each(context, |problem| match problem {
        Problem::Broken(why) => Some(format!("the file cannot be read on from here: {why}")),
        _ => None,
    })
}

fn key_repeated(context: &Context<'_>) -> Vec<Found> {
    each(context, |problem| match problem {
        Problem::Repeated { key, first } => Some(format!("{key} stands here a second time, first on line {first}")),
        _ => None,
    })
}

fn field_unknown(context: &Context<'_>) -> Vec<Found> {
    each(context, |problem| match problem {
        Problem::Unknown { path, nearest } if deprecated::removed(path).is_none() => Some(match nearest {
            Some(nearest) => format!("there is no field {path}; {nearest} is the nearest"),
            None => format!("there is no field {path}"),
        }),
        _ => None,
    })
}

fn field_missing(context: &Context<'_>) -> Vec<Found> {
    let mut found = each(context, |problem| match problem {
        Problem::Missing(path) => Some(format!("{path} is required and not there")),
        _ => None,
    });
    // The schema has these as optional, and the API's validation does not.
    let images = context.cluster.all_containers().map(|container| container.place.key("image"));
    let ports = context.cluster.all::<Service>().filter(|(_, service)| {
        let spec = service.spec.as_ref();
        spec.is_some_and(|spec| {
            spec.type_.as_deref() != Some("ExternalName") && spec.cluster_ip.as_deref() != Some("None")
        })
    });
    let ports = ports.map(|(object, _)| object.place().key("spec.ports"));
    let absent = images.chain(ports).filter(|place| place.node().is_none());
    found.extend(absent.map(|place| Found::at(&place, format!("{} is required and not there", place.path))));
    found
}

fn field_type(context: &Context<'_>) -> Vec<Found> {
    each(context, |problem| match problem {
        // A rule of its own knows what is meant.
        Problem::Wrong { path, .. } if path.ends_with(&["grpc", "port"]) => None,
        Problem::Wrong { path, why } if path.0.is_empty() => Some(format!("this cannot be read: {why}")),
        Problem::Wrong { path, why } => Some(format!("{path}: {why}")),
        _ => None,
    })
}

fn value_refused(context: &Context<'_>) -> Vec<Found> {
    each(context, |problem| match problem {
        Problem::Refused { path, why } => Some(format!("{path}: {why}")),
        _ => None,
    })
}

fn kind_misspelt(context: &Context<'_>) -> Vec<Found> {
    each(context, |problem| match problem {
        Problem::Misspelt(meant) => Some(format!("there is no such kind; {meant} is the nearest")),
        _ => None,
    })
}

fn kind_unchecked(context: &Context<'_>) -> Vec<Found> {
    each(context, |problem| match problem {
        Problem::Unchecked { api_version, kind } if deprecated::gone(api_version, kind).is_none() => {
            Some(format!("{api_version} {kind} is not known here and was not checked"))
        }
        _ => None,
    })
}

fn manifest_unrecognised(context: &Context<'_>) -> Vec<Found> {
    each(context, |problem| match problem {
        Problem::NotAManifest(why) => Some(format!("no manifest: {why}")),
        _ => None,
    })
}

fn kustomize_skipped(context: &Context<'_>) -> Vec<Found> {
    each(context, |problem| match problem {
        Problem::Kustomize(what) => Some(format!("{what}: skipped")),
        _ => None,
    })
}

fn object_repeated(context: &Context<'_>) -> Vec<Found> {
    let mut seen = HashMap::new();
    let mut found = Vec::new();
    for object in context.cluster.objects.iter().filter(|object| !object.name.is_empty()) {
        let id = (&object.api_version, &object.kind, &object.namespace, &object.name);
        if let Some(first) = seen.insert(id, object) {
            let line = first.place().spot().span.start.line;
            found.push(Found::at(&object.place(), format!("{} is there before, on line {line}", object.label())));
        }
    }
    found
}

fn file_apart(context: &Context<'_>) -> Vec<Found> {
    each(context, |problem| match problem {
        Problem::Apart { object, file } => Some(format!("{object} is also in {file}: this file is looked at alone")),
        _ => None,
    })
}
