//! What the server says of itself: its version, its groups, its kinds, and as much of `OpenAPI` as kubectl asks for.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::VERSION;
use super::answer::{self, Answer};
use crate::object::{RESOURCES, Resource};

pub(super) fn answer(parts: &[&str]) -> Option<Answer> {
    let value = match parts {
        ["healthz" | "livez" | "readyz"] => return Some(answer::text("ok".to_owned())),
        ["version"] => json!({
            "major": "1", "minor": "36", "gitVersion": VERSION, "gitCommit": "", "gitTreeState": "clean", "buildDate": "",
            "goVersion": "", "compiler": "", "platform": "linux/amd64",
        }),
        ["api"] => json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
        }),
        ["apis"] => {
            let groups: Vec<_> = groups().iter().filter(|group| !group.is_empty()).map(|name| group(name)).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["apis", name] if groups().contains(name) => {
            let mut value = group(name);
            value["kind"] = json!("APIGroup");
            value["apiVersion"] = json!("v1");
            value
        }
        ["api", version] => resources("", version)?,
        ["apis", group, version] => resources(group, version)?,
        ["openapi", "v3"] => {
            let paths = versions().into_iter().map(|path| {
                let url = format!("/openapi/v3/{path}?hash=1");
                (path, json!({"serverRelativeURL": url}))
            });
            json!({"paths": paths.collect::<serde_json::Map<_, _>>()})
        }
        ["openapi", "v3", path @ ..] => document(&path.join("/"))?,
        _ => return None,
    };
    Some(answer::json(200, &value))
}

fn groups() -> BTreeSet<&'static str> {
    RESOURCES.iter().map(Resource::group).collect()
}

fn group(name: &str) -> Value {
    let versions: BTreeSet<_> =
        RESOURCES.iter().filter(|one| one.group() == name).map(|one| (one.api_version(), one.version)).collect();
    let versions: Vec<_> =
        versions.into_iter().map(|(full, version)| json!({"groupVersion": full, "version": version})).collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions[0]})
}

fn resources(group: &str, version: &str) -> Option<Value> {
    let own: Vec<&Resource> = RESOURCES.iter().filter(|one| one.group() == group && one.version == version).collect();
    let first = own.first()?;
    let described = own.iter().flat_map(|one| {
        let whole = json!({
            "name": one.plural(), "singularName": one.kind.to_lowercase(), "namespaced": one.namespaced,
            "kind": one.kind, "verbs": one.verbs(), "shortNames": one.short,
            "categories": if ["Deployment", "ReplicaSet", "Pod", "Service"].contains(&one.kind) { json!(["all"]) } else { json!([]) },
        });
        let part = |part: &crate::object::Part| {
            json!({
                "name": format!("{}/{}", one.plural(), part.name), "singularName": "", "namespaced": one.namespaced,
                "group": part.group, "version": part.version, "kind": part.kind, "verbs": part.verbs,
            })
        };
        std::iter::once(whole).chain(one.parts.iter().map(part)).collect::<Vec<_>>()
    });
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": first.api_version(),
        "resources": described.collect::<Vec<_>>(),
    }))
}

/// `api/v1`, `apis/apps/v1` and so on.
fn versions() -> BTreeSet<String> {
    RESOURCES.iter().map(path_of).collect()
}

fn path_of(resource: &Resource) -> String {
    format!("{}/{}", if resource.group().is_empty() { "api" } else { "apis" }, resource.api_version())
}

/// That every kind can be checked by the server (`fieldValidation`), so that kubectl leaves that to it.
fn document(path: &str) -> Option<Value> {
    let own: Vec<&Resource> = RESOURCES.iter().filter(|one| path_of(one) == path).collect();
    own.first()?;
    let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
    let paths = own.iter().map(|one| {
        let namespace = if one.namespaced { "namespaces/{namespace}/" } else { "" };
        let operations = json!({"patch": {
            "parameters": [parameter("dryRun"), parameter("fieldValidation")],
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": {"group": one.group(), "version": one.version, "kind": one.kind},
        }});
        (format!("/{path}/{namespace}{}/{{name}}", one.plural()), operations)
    });
    Some(json!({
        "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths.collect::<serde_json::Map<_, _>>(), "components": {"schemas": {}},
    }))
}
