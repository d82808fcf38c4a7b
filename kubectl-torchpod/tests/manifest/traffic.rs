//! Who selects whom: selectors and template labels, Services and the pods behind them, budgets, monitors and policies.

use serde_json::{Value, json};

use crate::manifest::{Pod, Rendered, all_rendered, id, list, rendered, text};

/// Owners of the pods that labels select.
fn selected<'a>(pods: &'a [Pod<'a>], labels: &Value) -> Vec<&'a str> {
    pods.iter().filter(|pod| pod.is_selected_by(labels)).map(|pod| pod.owner.as_str()).collect()
}

#[test]
fn every_workload_selects_its_own_pods_and_no_others() {
    for file in all_rendered() {
        let pods = file.pods();
        for workload in file.objects.iter().filter(|object| object["spec"].get("template").is_some()) {
            let labels = &workload["spec"]["selector"]["matchLabels"];
            assert_eq!(selected(&pods, labels), [id(workload)], "{}", file.name);
        }
    }
}

#[test]
fn every_service_reaches_ports_of_some_pod() {
    let base = rendered("base");
    for file in all_rendered() {
        // Those that come alone stand beside a strategy, whose pods are the base's.
        let pods = if file.pods().is_empty() { base.pods() } else { file.pods() };
        for service in file.of_kind("Service").filter(|service| service["spec"].get("selector").is_some()) {
            let reached: Vec<_> = pods.iter().filter(|pod| pod.is_selected_by(&service["spec"]["selector"])).collect();
            assert!(!reached.is_empty(), "{}: {} selects nothing", file.name, id(service));
            // A headless one gives names, and no port is looked at.
            if service["spec"]["clusterIP"] == "None" {
                continue;
            }
            for port in list(&service["spec"]["ports"]) {
                let target = port.get("targetPort").unwrap_or(&port["port"]);
                let opens = |open: &Value| open["name"] == *target || open["containerPort"] == *target;
                let mut pods = reached.iter();
                let all = pods.all(|pod| pod.containers().iter().any(|one| list(&one["ports"]).iter().any(opens)));
                assert!(all, "{}: {} has a port that leads nowhere: {port}", file.name, id(service));
            }
        }
    }
}

#[test]
fn the_canarys_service_reaches_both_tracks() {
    for (file, service) in [("strategy-canary", "Service/ml-model-service"), ("tutorial", "Service/ml-model")] {
        let file = rendered(file);
        let pods = file.pods();
        let mut reached = selected(&pods, &file.get(service)["spec"]["selector"]);
        reached.sort_unstable();
        assert_eq!(reached, ["Deployment/ml-model-canary", "Deployment/ml-model-stable"], "{}", file.name);
    }
}

#[test]
fn the_blue_green_service_reaches_one_version_and_a_cutover_the_other() {
    let file = rendered("strategy-blue-green");
    let pods = file.pods();
    let mut selector = file.get("Service/ml-model-service")["spec"]["selector"].clone();
    assert_eq!(selected(&pods, &selector), ["Deployment/ml-model-blue"]);
    selector["version"] = json!("green");
    assert_eq!(selected(&pods, &selector), ["Deployment/ml-model-green"]);
}

#[test]
fn flagger_finds_its_target_and_makes_the_service_itself() {
    let file = rendered("strategy-canary-flagger");
    let target = &file.get("Canary/ml-model")["spec"]["targetRef"];
    file.get(&format!("{}/{}", text(&target["kind"]), text(&target["name"])));
    let ours: Vec<_> = file.of_kind("Service").map(id).collect();
    assert_eq!(ours, ["Service/flagger-loadtester"]);
    for metric in list(&file.get("Canary/ml-model")["spec"]["analysis"]["metrics"]) {
        file.get(&format!("MetricTemplate/{}", text(&metric["templateRef"]["name"])));
    }
}

/// What an object of a kind selects pods by.
fn pods_labels<'a>(file: &'a Rendered, kind: &str, selector: &str) -> Vec<(String, &'a Value)> {
    file.of_kind(kind).map(|object| (id(object), &object["spec"][selector]["matchLabels"])).collect()
}

#[test]
fn budgets_policies_and_monitors_select_pods_of_ours() {
    let mut checked = 0;
    for file in all_rendered() {
        let pods = file.pods();
        let mut selectors = pods_labels(&file, "PodDisruptionBudget", "selector");
        selectors.extend(pods_labels(&file, "NetworkPolicy", "podSelector"));
        selectors.extend(pods_labels(&file, "PodMonitor", "selector"));
        for (owner, labels) in selectors {
            assert!(!selected(&pods, labels).is_empty(), "{}: {owner} selects nothing", file.name);
            checked += 1;
        }
    }
    assert!(checked > 8, "selectors were found");
}

#[test]
fn a_budget_always_lets_one_pod_go() {
    for file in all_rendered() {
        for budget in file.of_kind("PodDisruptionBudget") {
            let spec = &budget["spec"];
            let replicas: u64 = file.of_kind("Deployment").filter_map(|one| one["spec"]["replicas"].as_u64()).sum();
            let lets = spec["maxUnavailable"].as_u64().is_some_and(|most| most > 0)
                || spec["minAvailable"].as_u64().is_some_and(|least| replicas == 0 || least < replicas);
            assert!(lets, "{}: no node could be drained", file.name);
            assert_eq!(spec["unhealthyPodEvictionPolicy"], "AlwaysAllow", "{}", file.name);
        }
    }
}

#[test]
fn prometheus_finds_the_port_of_the_metrics() {
    let file = rendered("component-monitoring");
    let monitor = &file.get("ServiceMonitor/ml-model")["spec"];
    let service = file.get("Service/ml-model-metrics");
    let wanted = monitor["selector"]["matchLabels"].as_object().unwrap();
    assert!(wanted.iter().all(|(key, value)| service["metadata"]["labels"][key] == *value));
    assert_eq!(monitor["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
    let pods = file.pods();
    let ports = list(&pods[0].server().unwrap()["ports"]);
    assert!(ports.iter().any(|port| port["containerPort"] == service["spec"]["ports"][0]["targetPort"]));
}
