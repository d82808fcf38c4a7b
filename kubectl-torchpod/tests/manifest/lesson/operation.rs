//! What a rollout leaves behind, what may be taken away, and where pods go.

use serde_json::{Value, json};

use super::expect;
use crate::manifest::rendered;

#[test]
fn a_rollout_says_why() {
    let text = json!("Update to model v2.1 with improved accuracy");
    for name in ["rolling", "rolling-conservative", "rolling-aggressive"] {
        let file = rendered(&format!("strategy-{name}"));
        expect(&file, "Deployment/ml-model", &[("/metadata/annotations/kubernetes.io~1change-cause", text.clone())]);
    }
}

fn budget(component: &str, field: &str, pods: u64) {
    let spec = |path: &str| format!("/spec/{path}");
    expect(
        &rendered(&format!("component-{component}")),
        "PodDisruptionBudget/ml-model-pdb",
        &[(&spec(field), json!(pods)), ("/spec/selector/matchLabels", json!({"app": "ml-model"}))],
    );
}

#[test]
fn two_pods_are_always_there() {
    budget("pdb-min-available", "minAvailable", 2);
}

#[test]
fn one_pod_may_be_down() {
    budget("pdb-max-unavailable", "maxUnavailable", 1);
}

fn pod_spec(component: &str) -> Value {
    let file = rendered(&format!("component-{component}"));
    let pods = file.pods();
    pods[0].spec.clone()
}

#[test]
fn no_two_pods_of_a_revision_share_a_node() {
    let spec = pod_spec("spread-hosts");
    let term = &spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(term["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(term["labelSelector"], json!({"matchLabels": {"app": "ml-model"}}));
    // Or a surge would wait for a node without a pod of the old revision.
    assert_eq!(term["matchLabelKeys"], json!(["pod-template-hash"]));
}

#[test]
fn pods_are_even_over_zones() {
    let spec = pod_spec("spread-zones");
    let wish = &spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(wish["podAffinityTerm"]["topologyKey"], "topology.kubernetes.io/zone");
    let constraint = &spec["topologySpreadConstraints"][0];
    assert_eq!(
        (&constraint["topologyKey"], &constraint["maxSkew"]),
        (&json!("topology.kubernetes.io/zone"), &json!(1))
    );
    assert_eq!(constraint["labelSelector"], json!({"matchLabels": {"app": "ml-model"}}));
}
