//! What pods ask for, and what a namespace allows.

use serde_json::{Value, json};

use super::expect;
use crate::manifest::{Pod, rendered};

/// The resources of the server that a component makes.
fn resources(component: &str) -> Value {
    let file = rendered(&format!("component-{component}"));
    let pods = file.pods();
    let server = pods[0].server().expect("a server");
    server["resources"].clone()
}

#[test]
fn guaranteed_is_sixteen_gib_four_cores_and_a_gpu() {
    let all = json!({"memory": "16Gi", "cpu": "4", "nvidia.com/gpu": "1"});
    assert_eq!(resources("qos-guaranteed"), json!({"requests": all, "limits": all}));
}

#[test]
fn burstable_may_double_what_it_reserves() {
    let expected = json!({"requests": {"memory": "8Gi", "cpu": "2"}, "limits": {"memory": "16Gi", "cpu": "4"}});
    assert_eq!(resources("qos-burstable"), expected);
}

#[test]
fn best_effort_asks_for_nothing() {
    assert_eq!(resources("qos-best-effort"), Value::Null);
}

#[test]
fn every_strategy_reserves_two_gib_and_a_core() {
    let expected = json!({"requests": {"memory": "2Gi", "cpu": "1"}, "limits": {"memory": "4Gi", "cpu": "2"}});
    assert_eq!(resources("resources"), expected);
    let names = ["rolling", "rolling-conservative", "rolling-aggressive", "blue-green", "canary", "canary-flagger"];
    for name in names.into_iter().chain(["recreate"]) {
        let file = rendered(&format!("strategy-{name}"));
        for server in file.pods().iter().filter_map(Pod::server) {
            assert_eq!(server["resources"], expected, "{name}");
        }
    }
}

#[test]
fn a_team_has_a_hundred_cores_and_eight_gpus() {
    let hard = json!({
        "requests.cpu": "100",
        "requests.memory": "200Gi",
        "requests.nvidia.com/gpu": "8",
        "limits.cpu": "200",
        "limits.memory": "400Gi",
        "pods": "50",
        "services.loadbalancers": "5",
    });
    let fields = [("/metadata/namespace", json!("ml-team")), ("/spec/hard", hard)];
    expect(&rendered("namespace-resource-quota"), "ResourceQuota/ml-team-quota", &fields);
}

#[test]
fn a_container_that_asks_for_nothing_gets_half_a_core() {
    let limits = json!([{
        "type": "Container",
        "max": {"cpu": "16", "memory": "64Gi"},
        "min": {"cpu": "100m", "memory": "128Mi"},
        "default": {"cpu": "1", "memory": "2Gi"},
        "defaultRequest": {"cpu": "500m", "memory": "1Gi"},
    }]);
    let fields = [("/metadata/namespace", json!("ml-team")), ("/spec/limits", limits)];
    expect(&rendered("namespace-limit-range"), "LimitRange/ml-limits", &fields);
}
