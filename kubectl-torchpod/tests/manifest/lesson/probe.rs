//! The three probes, and what else a probe may ask.

use serde_json::{Value, json};

use crate::manifest::{Pod, rendered};

/// A probe of the server that a component makes.
fn probe(component: &str, kind: &str) -> Value {
    let file = rendered(&format!("component-{component}"));
    let pods = file.pods();
    let server = pods[0].server().expect("a server");
    server[kind].clone()
}

#[track_caller]
fn has(probe: &Value, fields: &[(&str, Value)]) {
    for (name, value) in fields {
        assert_eq!(probe.pointer(name).unwrap_or(&Value::Null), value, "{name} in {probe}");
    }
}

#[test]
fn startup_has_sixty_seconds_liveness_thirty_and_readiness_two_successes() {
    let startup = probe("probes-http", "startupProbe");
    has(
        &startup,
        &[
            ("/httpGet/path", json!("/startup")),
            ("/initialDelaySeconds", json!(0)),
            ("/periodSeconds", json!(5)),
            ("/failureThreshold", json!(12)),
        ],
    );
    let liveness = probe("probes-http", "livenessProbe");
    has(
        &liveness,
        &[
            ("/httpGet/path", json!("/health")),
            ("/initialDelaySeconds", json!(60)),
            ("/periodSeconds", json!(10)),
            ("/timeoutSeconds", json!(5)),
            ("/failureThreshold", json!(3)),
            ("/successThreshold", json!(1)),
        ],
    );
    let readiness = probe("probes-http", "readinessProbe");
    has(
        &readiness,
        &[
            ("/httpGet/path", json!("/ready")),
            ("/initialDelaySeconds", json!(10)),
            ("/periodSeconds", json!(5)),
            ("/timeoutSeconds", json!(3)),
            ("/failureThreshold", json!(3)),
            ("/successThreshold", json!(2)),
        ],
    );
}

#[test]
fn a_tcp_probe_connects_to_8080() {
    let liveness = probe("probes-tcp", "livenessProbe");
    has(
        &liveness,
        &[("/tcpSocket", json!({"port": 8080})), ("/initialDelaySeconds", json!(15)), ("/periodSeconds", json!(10))],
    );
}

#[test]
fn an_exec_probe_runs_curl_in_a_shell_or_torchpod_without_one() {
    let curl = json!(["/bin/sh", "-c", "curl -f http://localhost:8080/health || exit 1"]);
    let own = json!(["torchpod", "probe", "health", "--timeout", "4s"]);
    for (component, command) in [("probes-exec-curl", curl), ("probes-exec", own)] {
        let liveness = probe(component, "livenessProbe");
        has(
            &liveness,
            &[("/exec/command", command), ("/initialDelaySeconds", json!(30)), ("/periodSeconds", json!(10))],
        );
    }
}

#[test]
fn a_grpc_probe_asks_9090_for_liveness_and_by_name_for_the_rest() {
    let liveness = probe("probes-grpc", "livenessProbe");
    has(&liveness, &[("/grpc", json!({"port": 9090})), ("/initialDelaySeconds", json!(10))]);
    assert_eq!(probe("probes-grpc", "readinessProbe")["grpc"], json!({"port": 9090, "service": "readiness"}));
    assert_eq!(probe("probes-grpc", "startupProbe")["grpc"], json!({"port": 9090, "service": "startup"}));
}

#[test]
fn every_strategy_has_a_readiness_probe() {
    let names = ["rolling", "rolling-conservative", "rolling-aggressive", "blue-green", "canary", "canary-flagger"];
    for name in names.into_iter().chain(["recreate"]) {
        let file = rendered(&format!("strategy-{name}"));
        for server in file.pods().iter().filter_map(Pod::server) {
            has(
                &server["readinessProbe"],
                &[
                    ("/httpGet/path", json!("/ready")),
                    ("/initialDelaySeconds", json!(10)),
                    ("/periodSeconds", json!(5)),
                ],
            );
        }
    }
}
