//! That kustomize takes every folder, and that `k8s/rendered` is what it makes of them today.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::manifest::{files, parse, read, root, tool};

/// Every kustomization of a kind, by its folder.
fn folders(kind: &str) -> Vec<String> {
    let all = files("k8s", "/kustomization.yaml");
    let mut folders: Vec<_> = all.iter().map(|path| path.trim_end_matches("/kustomization.yaml").to_owned()).collect();
    folders.retain(|folder| parse(&read(&format!("{folder}/kustomization.yaml")))[0]["kind"] == kind);
    folders
}

fn texts(folder: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())).collect()
}

#[test]
fn kustomize_takes_every_folder() {
    let folders = folders("Kustomization");
    assert!(folders.len() > 15, "the folders were found: {folders:?}");
    for folder in folders {
        let output = tool("kubectl").args(["kustomize", &folder]).output().unwrap();
        assert!(output.status.success(), "{folder}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn what_is_rendered_is_fresh() {
    let fresh = TempDir::new().unwrap();
    let kubectl = tool("kubectl").get_program().to_owned();
    let mut script = Command::new(root().join("scripts/manifests"));
    let output = script.arg(fresh.path()).env("KUBECTL", kubectl).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let (fresh, kept) = (texts(fresh.path()), texts(&root().join("k8s/rendered")));
    assert_eq!(fresh.keys().collect::<Vec<_>>(), kept.keys().collect::<Vec<_>>(), "run `make manifests`");
    for (name, text) in fresh {
        assert!(kept[&name] == text, "k8s/rendered/{name} is stale: run `make manifests`");
    }
}

#[test]
fn every_component_is_rendered_over_the_base() {
    let base = parse(&read("k8s/rendered/base.yaml"));
    for folder in folders("Component") {
        let name = folder.trim_start_matches("k8s/components/");
        let over = parse(&read(&format!("k8s/rendered/component-{name}.yaml")));
        assert!(over.len() >= base.len() && over != base, "{name} adds something");
    }
}

#[test]
fn without_a_kubectl_one_is_told_how_to_get_it() {
    let out = TempDir::new().unwrap();
    let mut script = Command::new(root().join("scripts/manifests"));
    let output = script.arg(out.path()).env("KUBECTL", "/nowhere/kubectl").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        said.trim(),
        "/nowhere/kubectl is missing: `make test-manifests` installs a kubectl, or set KUBECTL to one of 1.29 or newer"
    );
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}
