//! What an API server would refuse or quietly drop: unknown fields, wrong types, missing ones. `validate.py` does the
//! reading, since the schemas are published for Python.

use std::fs;

use tempfile::TempDir;

use crate::manifest::{all_rendered, files, read, tool};

/// The oldest that is still supported, one between, and the newest.
const VERSIONS: [&str; 3] = ["1.33", "1.35", "1.37"];

/// Whether the files pass, and what was said about them.
fn validate(files: &[String]) -> (bool, String) {
    let mut run = tool("python");
    run.args(["-B", "kubectl-torchpod/tests/manifest/validate.py"]).args(files).arg("--").args(VERSIONS);
    let output = run.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text.into_owned())
}

/// What is said where one text of a rendered file reads otherwise.
fn misspelt(name: &str, right: &str, wrong: &str) -> String {
    let text = read(&format!("k8s/rendered/{name}.yaml"));
    assert!(text.contains(right), "{name} has {right}");
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(format!("{name}.yaml"));
    fs::write(&path, text.replace(right, wrong)).unwrap();
    let (passes, said) = validate(&[path.display().to_string()]);
    assert!(!passes, "{name} passes with {wrong}");
    said
}

#[test]
fn every_file_passes_three_versions_of_kubernetes_strictly() {
    let (passes, said) = validate(&files("k8s/rendered", ".yaml"));
    assert!(passes, "{said}");
    let objects: usize = all_rendered().iter().map(|file| file.objects.len()).sum();
    assert_eq!(said.trim(), objects.to_string(), "all were checked");
}

#[test]
fn a_misspelt_field_is_found_in_every_version() {
    let said = misspelt("strategy-rolling", "replicas:", "replcias:");
    assert!(VERSIONS.iter().all(|version| said.contains(&format!("Kubernetes {version}: spec: "))), "{said}");
    assert!(said.contains("'replcias' was unexpected"), "{said}");
}

#[test]
fn a_misspelt_field_of_a_custom_resource_is_found() {
    for (name, right, wrong) in [
        ("strategy-canary-flagger", "stepWeight:", "stepWeigth:"),
        ("strategy-canary-flagger", "podMetricsEndpoints:", "podMetricEndpoints:"),
        ("strategy-canary-flagger", "query:", "querry:"),
        ("component-monitoring", "scrapeTimeout:", "scrapeTimeOut:"),
        ("kserve", "autoSelect:", "autoselect:"),
        // In the part that is a pod's.
        ("kserve", "failureThreshold:", "failureTreshold:"),
    ] {
        let said = misspelt(name, right, wrong);
        assert!(said.contains(wrong.trim_end_matches(':')), "{said}");
    }
}

#[test]
fn what_older_clusters_took_is_refused() {
    let topology = misspelt("service-topology", "trafficDistribution: PreferSameNode", "topologyKeys: ['*']");
    assert!(topology.contains("'topologyKeys' was unexpected"), "{topology}");
    let canary =
        misspelt("strategy-canary-flagger", "apiVersion: flagger.app/v1beta1", "apiVersion: flagger.app/v1alpha3");
    assert!(canary.contains("'flagger.app/v1beta1' was expected"), "{canary}");
}
