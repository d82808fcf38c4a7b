//! That kustomize takes every folder, and that `k8s/rendered` is what it makes of them today.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::manifest::{Rendered, files, list, parse, read, root, tool, variables};

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

#[test]
fn a_strategy_takes_more_components_and_another_image() {
    let beside = TempDir::new().unwrap();
    // kustomize takes no absolute paths.
    let up = "../".repeat(beside.path().components().count() - 1);
    let k8s = format!("{up}{}/k8s", root().display().to_string().trim_start_matches('/'));
    let components =
        ["spread-hosts", "spread-zones", "gpu", "priority", "network-policy", "monitoring", "tracing", "packages"];
    let components = components.map(|name| format!("  - {k8s}/components/{name}\n")).concat();
    let images = "images:\n  - name: torchpod\n    newName: registry.example.com/ml/torchpod\n    newTag: 2.1.0\n";
    let text = format!("resources:\n  - {k8s}/strategies/rolling\ncomponents:\n{components}{images}");
    fs::write(beside.path().join("kustomization.yaml"), text).unwrap();

    let output = tool("kubectl").arg("kustomize").arg(beside.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let file =
        Rendered { name: "rolling and more".to_owned(), objects: parse(&String::from_utf8(output.stdout).unwrap()) };
    let pods = file.pods();
    let (spec, server) = (pods[0].spec, pods[0].server().unwrap());
    assert_eq!(server["image"], "registry.example.com/ml/torchpod:2.1.0");
    assert_eq!(server["resources"]["limits"]["nvidia.com/gpu"], "1");
    assert_eq!(server["resources"]["limits"]["memory"], "4Gi", "the strategy's own are kept");
    assert_eq!(spec["affinity"]["podAntiAffinity"].as_object().unwrap().len(), 2, "by host and by zone");
    assert_eq!(spec["priorityClassName"], "ml-serving");
    assert_eq!(spec["terminationGracePeriodSeconds"], 45);
    assert_eq!(variables(server)["OTEL_EXPORTER_OTLP_ENDPOINT"], "http://$(NODE_IP):4317");
    let mounts: Vec<_> = list(&server["volumeMounts"]).iter().map(|mount| &mount["mountPath"]).collect();
    assert!(["/tmp", "/dev/shm"].iter().all(|path| mounts.iter().any(|mount| *mount == path)), "{mounts:?}");
    for kind in ["NetworkPolicy", "ServiceMonitor", "PrometheusRule", "PriorityClass", "PodDisruptionBudget"] {
        assert_eq!(file.of_kind(kind).count(), 1, "{kind}");
    }
}
