//! Headless, sticky, external and near.

use serde_json::{Value, json};

use super::expect;
use crate::manifest::{rendered, text, variables};

#[test]
fn three_ranks_have_a_name_each_and_start_together() {
    let file = rendered("service-headless-training");
    expect(
        &file,
        "Service/ml-training",
        &[
            ("/spec/clusterIP", json!("None")),
            ("/spec/selector", json!({"app": "ml-training"})),
            ("/spec/ports/0", json!({"name": "training", "port": 8080})),
            // Ranks look for each other before they are ready.
            ("/spec/publishNotReadyAddresses", json!(true)),
        ],
    );
    expect(
        &file,
        "StatefulSet/ml-training",
        &[
            ("/spec/serviceName", json!("ml-training")),
            ("/spec/replicas", json!(3)),
            ("/spec/podManagementPolicy", json!("Parallel")),
            ("/spec/selector/matchLabels", json!({"app": "ml-training"})),
        ],
    );
    let pods = file.pods();
    let trainer = &pods[0].containers()[0];
    let pod_name = json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}});
    assert_eq!(trainer["env"][0], pod_name);
    let variables = variables(trainer);
    let replicas = &file.get("StatefulSet/ml-training")["spec"]["replicas"];
    assert_eq!(variables["WORLD_SIZE"], replicas.to_string());
    assert_eq!(variables["MASTER_ADDR"], "ml-training-0.ml-training");
    for folder in ["CHECKPOINT_DIR", "OUTPUT_DIR"] {
        let mounts = trainer["volumeMounts"].as_array().unwrap();
        assert!(mounts.iter().any(|mount| mount["mountPath"] == variables[folder]), "{folder} can be written to");
    }
}

#[test]
fn a_sticky_client_stays_for_three_hours() {
    expect(
        &rendered("service-session-affinity"),
        "Service/ml-model-sticky",
        &[
            ("/spec/selector", json!({"app": "ml-model"})),
            ("/spec/sessionAffinity", json!("ClientIP")),
            ("/spec/sessionAffinityConfig/clientIP/timeoutSeconds", json!(10800)),
            ("/spec/ports/0/port", json!(80)),
            ("/spec/ports/0/targetPort", json!(8080)),
        ],
    );
}

#[test]
fn an_external_name_is_what_the_server_waits_for() {
    let file = rendered("service-external-name");
    let name = "mysql-instance.cxxxx.us-west-2.rds.amazonaws.com";
    let service = [("/spec/type", json!("ExternalName")), ("/spec/externalName", json!(name))];
    expect(&file, "Service/external-db", &service);
    let pods = file.pods();
    let url = variables(pods[0].server().expect("a server"))["TORCHPOD_DEPENDENCY"].to_owned();
    assert!(url.starts_with("mysql://") && url.contains("@external-db:3306"), "{url}");
}

#[test]
fn an_external_address_has_an_endpoint_slice_of_its_own() {
    let file = rendered("service-external-endpoints");
    let service = file.get("Service/external-api");
    assert_eq!(service["spec"].get("selector"), None);
    assert_eq!(
        (&service["spec"]["ports"][0]["port"], &service["spec"]["ports"][0]["targetPort"]),
        (&json!(443), &json!(443))
    );
    let slice = file.get("EndpointSlice/external-api-1");
    assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], service["metadata"]["name"]);
    assert_eq!(slice["ports"][0]["name"], service["spec"]["ports"][0]["name"], "ports are matched by name");
    assert_eq!(slice["ports"][0]["port"], json!(443));
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["203.0.113.42"]));
}

#[test]
fn the_old_endpoints_say_the_same_as_the_slice() {
    let file = rendered("service-external-endpoints-deprecated");
    let subset = json!([{"addresses": [{"ip": "203.0.113.42"}], "ports": [{"name": "https", "port": 443}]}]);
    expect(&file, "Endpoints/external-api", &[("/subsets", subset)]);
    let new = rendered("service-external-endpoints");
    assert_eq!(file.get("Service/external-api"), new.get("Service/external-api"));
    assert_eq!(new.of_kind("Endpoints").count(), 0, "both together would double the address");
}

#[test]
fn the_nearest_pod_is_on_the_node_then_in_the_zone() {
    let file = rendered("service-topology");
    for (name, field, value) in [
        ("ml-model-local", "trafficDistribution", "PreferSameNode"),
        ("ml-model-zone", "trafficDistribution", "PreferSameZone"),
        ("ml-model-node", "internalTrafficPolicy", "Local"),
    ] {
        let spec: &Value = &file.get(&format!("Service/{name}"))["spec"];
        assert_eq!(text(&spec[field]), value, "{name}");
        assert_eq!(spec["selector"], json!({"app": "ml-model"}), "{name}");
        assert_eq!((&spec["ports"][0]["port"], &spec["ports"][0]["targetPort"]), (&json!(80), &json!(8080)), "{name}");
    }
}
