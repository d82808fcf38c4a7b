//! `k8s/release-rights` against what is really asked: all of it, and nothing else.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use loopback::{Asked, Scale};
use serde_json::Value;

use crate::lab::Lab;

/// A right: group, resource and verb.
type Right = (String, String, String);

fn right(asked: &Asked) -> Right {
    let path = asked.path.split('?').next().unwrap();
    let (group, rest) = match path.strip_prefix("/apis/") {
        Some(rest) => rest.split_once('/').unwrap(),
        None => ("", path.strip_prefix("/api/").unwrap()),
    };
    let parts: Vec<&str> = rest.splitn(7, '/').collect();
    let ["v1", "namespaces", "default", resource, name @ ..] = parts.as_slice() else { panic!("{path}") };
    let resource = if name.get(1) == Some(&"proxy") { format!("{resource}/proxy") } else { (*resource).to_owned() };
    let verb = match asked.method.as_str() {
        "GET" if name.is_empty() => "list",
        "GET" => "get",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        other => panic!("{other} {path}"),
    };
    (group.to_owned(), resource, verb.to_owned())
}

fn granted() -> BTreeSet<Right> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let text = std::fs::read_to_string(root.join("k8s/rendered/release-rights.yaml")).unwrap();
    let objects = text.split("\n---\n").map(|one| serde_saphyr::from_str::<Value>(one).unwrap());
    let role = objects.into_iter().find(|object| object["kind"] == "Role").unwrap();
    let role: Role = serde_json::from_value(role).unwrap();
    let each = |rule: &PolicyRule| {
        let (groups, resources) = (rule.api_groups.clone().unwrap(), rule.resources.clone().unwrap());
        let pairs = groups
            .into_iter()
            .flat_map(move |group| resources.clone().into_iter().map(move |resource| (group.clone(), resource)));
        let verbs = rule.verbs.clone();
        pairs.flat_map(move |(group, resource)| {
            verbs.clone().into_iter().map(move |verb| (group.clone(), resource.clone(), verb))
        })
    };
    role.rules.iter().flatten().flat_map(each).collect()
}

#[test]
fn the_role_allows_what_is_asked_and_nothing_else() {
    let of = |strategy| Lab::of(strategy, Scale::few(1));
    let canary = of("strategy-canary");
    canary.run(&["canary", "ml-model", "--image", "torchpod:nowhere"]).assert_code(1);
    canary.run(&["canary", "other", "--image", "torchpod:nowhere"]).assert_code(2);
    // Once more: the Lease is there, and let go.
    canary.run(&["canary", "ml-model", "--image", "torchpod:nowhere"]).assert_code(1);
    canary.run(&["status", "ml-model"]).assert_code(0).assert_said("canary: taken-back");
    let blue_green = of("strategy-blue-green");
    blue_green.run(&["cutover", "ml-model", "--to", "green"]).assert_code(0);
    let asked = canary.api.asked().into_iter().chain(blue_green.api.asked());
    // Whoever is known may ask for the version.
    let asked = asked.filter(|asked| asked.path != "/version");
    let asked: BTreeSet<Right> = asked.map(|asked| right(&asked)).collect();
    assert_eq!(asked, granted());
}
