//! The tutorial's manifests, as they are written: what a cluster refuses of them is known, and the rest is admitted.

use std::collections::BTreeSet;

use kubectl_torchpod::lint::{Given, Severity};

fn found(severity: Severity) -> BTreeSet<String> {
    crate::found("tests/data/lesson", severity)
}

#[test]
fn what_a_cluster_refuses_of_the_tutorial_is_an_error_and_nothing_else_is() {
    let errors = ["rolling-update.yaml: field-missing", "topology.yaml: field-removed"];
    assert_eq!(found(Severity::Error), errors.map(str::to_owned).into());
}

#[test]
fn what_a_cluster_warns_of_in_the_tutorial_is_a_warning() {
    let warnings = found(Severity::Warning);
    for known in ["external.yaml: endpoints-deprecated", "flagger-canary.yaml: flagger-threshold-old"] {
        assert!(warnings.contains(known), "{known} in {warnings:?}");
    }
}

#[test]
fn the_first_deployment_is_refused_for_its_selector() {
    let text = include_str!("../data/lesson/rolling-update.yaml");
    assert!(
        crate::findings(text, &Given::default())
            .contains(&"field-missing: spec.selector is required and not there".to_owned())
    );
}
