//! Rolling updates, blue-green, canaries, recreate.

use serde_json::{Value, json};

use super::expect;
use crate::manifest::{Rendered, list, rendered, text};

fn rolls(name: &str, surge: u64, unavailable: u64) {
    let strategy =
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
    expect(&rendered(name), "Deployment/ml-model", &[("/spec/replicas", json!(10)), ("/spec/strategy", strategy)]);
}

#[test]
fn the_default_rollout_has_ten_pods_two_more_and_one_less() {
    rolls("strategy-rolling", 2, 1);
}

#[test]
fn the_conservative_rollout_never_has_a_pod_less() {
    rolls("strategy-rolling-conservative", 1, 0);
}

#[test]
fn the_aggressive_rollout_has_three_more_and_two_less() {
    rolls("strategy-rolling-aggressive", 3, 2);
}

/// A Deployment of one track or version: its replicas, and the labels that it selects.
fn part(file: &Rendered, name: &str, replicas: u64, label: (&str, &str)) {
    let labels = json!({"app": "ml-model", label.0: label.1});
    let id = format!("Deployment/{name}");
    expect(file, &id, &[("/spec/replicas", json!(replicas)), ("/spec/selector/matchLabels", labels)]);
}

#[test]
fn blue_and_green_have_three_pods_each_and_the_service_points_to_blue() {
    let file = rendered("strategy-blue-green");
    part(&file, "ml-model-blue", 3, ("version", "blue"));
    part(&file, "ml-model-green", 3, ("version", "green"));
    let selector = json!({"app": "ml-model", "version": "blue"});
    expect(
        &file,
        "Service/ml-model-service",
        &[("/spec/selector", selector), ("/spec/ports/0/port", json!(80)), ("/spec/ports/0/targetPort", json!(8080))],
    );
}

#[test]
fn nine_stable_pods_and_one_canary_share_a_service() {
    let file = rendered("strategy-canary");
    part(&file, "ml-model-stable", 9, ("track", "stable"));
    part(&file, "ml-model-canary", 1, ("track", "canary"));
    expect(
        &file,
        "Service/ml-model-service",
        &[
            ("/spec/selector", json!({"app": "ml-model"})),
            ("/spec/ports/0/port", json!(80)),
            ("/spec/ports/0/targetPort", json!(8080)),
        ],
    );
}

#[test]
fn flagger_steps_by_ten_to_fifty_and_wants_99_percent_within_500_ms() {
    let file = rendered("strategy-canary-flagger");
    expect(
        &file,
        "Canary/ml-model",
        &[
            ("/spec/targetRef", json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "ml-model"})),
            ("/spec/service/port", json!(8080)),
            ("/spec/analysis/interval", json!("1m")),
            ("/spec/analysis/threshold", json!(5)),
            ("/spec/analysis/maxWeight", json!(50)),
            ("/spec/analysis/stepWeight", json!(10)),
            ("/spec/analysis/metrics/0/name", json!("request-success-rate")),
            ("/spec/analysis/metrics/0/thresholdRange", json!({"min": 99})),
            ("/spec/analysis/metrics/1/name", json!("request-duration")),
            ("/spec/analysis/metrics/1/thresholdRange", json!({"max": 500})),
        ],
    );
    // Without requests Flagger halts.
    let hooks = list(&file.get("Canary/ml-model")["spec"]["analysis"]["webhooks"]);
    assert!(hooks.iter().any(|hook| hook["type"] == "rollout" && text(&hook["metadata"]["cmd"]).contains("/predict")));
}

#[test]
fn recreate_keeps_nothing_of_a_rolling_update() {
    expect(&rendered("strategy-recreate"), "Deployment/ml-model", &[("/spec/strategy", json!({"type": "Recreate"}))]);
}

#[test]
fn the_tutorial_labels_nine_pods_v1_and_one_v2() {
    let file = rendered("tutorial");
    part(&file, "ml-model-stable", 9, ("track", "stable"));
    part(&file, "ml-model-canary", 1, ("track", "canary"));
    for (name, version, label) in
        [("ml-model-stable", "v1", "Model v1 (stable)"), ("ml-model-canary", "v2", "Model v2 (canary)")]
    {
        let id = format!("Deployment/{name}");
        let args = json!(["serve", "/models", "--label", label]);
        expect(
            &file,
            &id,
            &[
                ("/spec/template/metadata/labels/version", json!(version)),
                ("/spec/template/spec/containers/0/args", args),
            ],
        );
    }
    expect(
        &file,
        "Service/ml-model",
        &[
            ("/spec/selector", json!({"app": "ml-model"})),
            ("/spec/ports/0/port", json!(80)),
            ("/spec/ports/0/targetPort", json!(8080)),
        ],
    );
    let outside = |object: &&Value| object["kind"] != "Namespace" && object["metadata"]["namespace"] != "ml-canary";
    assert_eq!(file.objects.iter().filter(outside).count(), 0, "all is gone with the namespace");
}
