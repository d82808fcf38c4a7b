//! What we ship passes: every rendered file of `k8s/`, as whoever applies it would check it.

use kubectl_torchpod::lint::Severity;

use crate::found;

const RENDERED: &str = "../k8s/rendered";

#[test]
fn what_is_shipped_has_no_errors() {
    assert_eq!(found(RENDERED, Severity::Error), [].into());
}

#[test]
fn what_is_shipped_has_the_warnings_that_are_meant() {
    for warning in found(RENDERED, Severity::Warning) {
        let (file, rule) = warning.split_once(": ").unwrap();
        // The base has no probes, so that a component can bring them, and so have components over it alone.
        let is_part = rule == "readiness-missing" && (file == "base.yaml" || file.starts_with("component-"));
        // It shows the old form.
        let is_old = rule == "endpoints-deprecated" && file == "service-external-endpoints-deprecated.yaml";
        assert!(is_part || is_old, "{warning}");
    }
}
