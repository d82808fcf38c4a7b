//! Rendered files as JSON values, and how to find one's way in them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value};

/// The folder of the whole project.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member of the workspace").to_owned()
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(crate) fn parse(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Files with an ending below a folder, from the root of the project, in order.
pub(crate) fn files(folder: &str, ending: &str) -> Vec<String> {
    let (mut found, mut open) = (Vec::new(), vec![root().join(folder)]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path.strip_prefix(root()).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{folder} holds files that end with {ending}");
    found
}

/// One file of `k8s/rendered`, by its name.
pub(crate) struct Rendered {
    pub(crate) name: String,
    pub(crate) objects: Vec<Value>,
}

pub(crate) fn rendered(name: &str) -> Rendered {
    Rendered { name: name.to_owned(), objects: parse(&read(&format!("k8s/rendered/{name}.yaml"))) }
}

pub(crate) fn all_rendered() -> Vec<Rendered> {
    let name = |path: &str| path.trim_start_matches("k8s/rendered/").trim_end_matches(".yaml").to_owned();
    files("k8s/rendered", ".yaml").iter().map(|path| rendered(&name(path))).collect()
}

impl Rendered {
    /// The object that is called `Kind/name`.
    pub(crate) fn get(&self, id: &str) -> &Value {
        let found = self.objects.iter().find(|object| self::id(object) == id);
        found.unwrap_or_else(|| panic!("{} has no {id}", self.name))
    }

    pub(crate) fn of_kind<'a>(&'a self, kind: &str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// Every pod that the file brings, with its owner.
    pub(crate) fn pods(&self) -> Vec<Pod<'_>> {
        self.objects.iter().filter_map(Pod::of).collect()
    }
}

pub(crate) fn id(object: &Value) -> String {
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is a text"))
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// What a workload makes pods of.
pub(crate) struct Pod<'a> {
    pub(crate) owner: String,
    pub(crate) labels: &'a Value,
    pub(crate) spec: &'a Value,
}

impl<'a> Pod<'a> {
    fn of(object: &'a Value) -> Option<Self> {
        let (labels, spec) = match text(&object["kind"]) {
            "Deployment" | "StatefulSet" => {
                (&object["spec"]["template"]["metadata"]["labels"], &object["spec"]["template"]["spec"])
            }
            "Pod" => (&object["metadata"]["labels"], &object["spec"]),
            // KServe copies it into a pod that it makes.
            "ServingRuntime" => (&object["spec"]["labels"], &object["spec"]),
            _ => return None,
        };
        Some(Self { owner: id(object), labels, spec })
    }

    pub(crate) fn containers(&self) -> &'a [Value] {
        list(&self.spec["containers"])
    }

    /// The container that runs `torchpod serve`, if one does.
    pub(crate) fn server(&self) -> Option<&'a Value> {
        self.containers().iter().find(|container| container["args"][0] == "serve")
    }

    pub(crate) fn is_selected_by(&self, labels: &Value) -> bool {
        let wanted = labels.as_object().expect("labels");
        !wanted.is_empty() && wanted.iter().all(|(key, value)| self.labels[key] == *value)
    }
}

/// A container's variables; those that come from elsewhere, such as a Secret, are empty.
pub(crate) fn variables(container: &Value) -> BTreeMap<&str, &str> {
    let pairs = list(&container["env"]).iter();
    pairs.map(|pair| (text(&pair["name"]), pair["value"].as_str().unwrap_or_default())).collect()
}

/// Every object inside a value, itself included.
pub(crate) fn walk(value: &Value) -> Vec<&Map<String, Value>> {
    match value {
        Value::Object(map) => [map].into_iter().chain(map.values().flat_map(walk)).collect(),
        Value::Array(items) => items.iter().flat_map(walk).collect(),
        _ => Vec::new(),
    }
}

/// A program that the tests need, by name, where the environment of `make test-manifests` has it.
pub(crate) fn tool(name: &str) -> Command {
    let path = root().join(".venvs/manifests/bin").join(name);
    assert!(path.exists(), "{name} is not installed: `make test-manifests` gets it, kubectl and the schemas");
    let mut command = Command::new(path);
    command.current_dir(root());
    command
}
