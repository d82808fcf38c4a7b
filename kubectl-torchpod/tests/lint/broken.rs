//! What is shipped, broken in one place: each slip is found by the rule that knows it.

use std::fs;

use kubectl_torchpod::lint::Given;

use crate::findings;

/// A rendered file, what stands there, what somebody might write, and the rule that must tell.
const SLIPS: &[(&str, &str, &str, &str)] = &[
    // Selectors and labels.
    (
        "strategy-rolling",
        "matchLabels:\n      app: ml-model",
        "matchLabels:\n      app: ml-modle",
        "selector-labels-mismatch",
    ),
    (
        "strategy-rolling",
        "labels:\n        app: ml-model",
        "labels:\n        app: ml-models",
        "selector-labels-mismatch",
    ),
    ("strategy-rolling", "  selector:\n    app: ml-model", "  selector:\n    app: ml-modle", "service-selects-nothing"),
    ("strategy-blue-green", "    version: blue\n---", "    version: purple\n---", "blue-green-matches-none"),
    ("strategy-blue-green", "    version: blue\n---", "---", "blue-green-matches-both"),
    (
        "strategy-canary",
        "  selector:\n    app: ml-model",
        "  selector:\n    app: ml-model\n    track: stable",
        "canary-misses-track",
    ),
    // Ports.
    ("strategy-rolling", "targetPort: 8080", "targetPort: 8088", "service-port-closed"),
    ("strategy-rolling", "targetPort: 8080", "targetPort: web", "service-port-name-unknown"),
    ("strategy-rolling", "containerPort: 8081", "containerPort: 8082", "probe-port-unresolved"),
    ("strategy-rolling", "value: 0.0.0.0:8081", "value: 0.0.0.0:8082", "probe-port-unresolved"),
    ("strategy-rolling", "    name: grpc\n    port: 9090", "    port: 9090", "service-ports-unnamed"),
    ("strategy-rolling", "    port: 80\n", "    port: 9090\n", "entry-repeated"),
    ("strategy-rolling", "    port: 80\n", "    port: 80000\n", "value-refused"),
    // Probes.
    ("strategy-rolling", "path: /health", "path: /ready", "liveness-asks-readiness"),
    ("strategy-rolling", "path: /health", "path: /healthz", "probe-question-unknown"),
    ("strategy-rolling", "path: /ready", "path: /health", "readiness-equals-liveness"),
    ("strategy-rolling", "timeoutSeconds: 5", "timeoutSeconds: 1", "liveness-timeout-short"),
    ("strategy-rolling", "successThreshold: 1", "successThreshold: 2", "probe-success-threshold"),
    ("strategy-rolling", "failureThreshold: 12", "failureThreshold: 200", "startup-budget-past-deadline"),
    ("strategy-rolling", "startupProbe:", "startupprobe:", "startup-probe-missing"),
    ("strategy-rolling", "path: /startup", "host: example.com\n            path: /startup", "probe-host"),
    (
        "strategy-rolling",
        "httpGet:\n            path: /startup\n            port: probes",
        "grpc: { port: grpc }",
        "probe-grpc-port-named",
    ),
    (
        "strategy-rolling",
        "httpGet:\n            path: /ready\n            port: probes",
        "grpc: { port: 9090 }",
        "readiness-grpc-unnamed",
    ),
    (
        "strategy-rolling",
        "httpGet:\n            path: /ready",
        "tcpSocket: { port: 8080 }\n          httpGet:\n            path: /ready",
        "probe-handlers",
    ),
    // The end.
    ("strategy-rolling", "GracePeriodSeconds: 45", "GracePeriodSeconds: 39", "grace-too-short"),
    ("strategy-rolling", "GracePeriodSeconds: 45", "GracePeriodSeconds: 60", "grace-told-wrong"),
    ("strategy-rolling", "GracePeriodSeconds: 45", "GracePeriodSeconds: 5", "pre-stop-outlasts-grace"),
    ("strategy-rolling", "value: 30s", "value: 60s", "grace-too-short"),
    ("strategy-rolling", "value: 30s", "value: \"30\"", "server-setting-refused"),
    (
        "strategy-rolling",
        "lifecycle:\n          preStop:\n            sleep:\n              seconds: 5\n        ",
        "",
        "drain-delay-missing",
    ),
    // Rollouts.
    (
        "strategy-rolling",
        "maxSurge: 2\n      maxUnavailable: 1",
        "maxSurge: 0\n      maxUnavailable: 0",
        "rollout-without-room",
    ),
    ("strategy-rolling", "maxUnavailable: 1\n    type", "maxUnavailable: 100%\n    type", "rollout-takes-all-down"),
    ("strategy-rolling", "type: RollingUpdate", "type: Recreate", "recreate-with-rolling-update"),
    ("strategy-rolling", "type: RollingUpdate", "type: Rollingupdate", "value-refused"),
    ("strategy-rolling", "image: torchpod:0.1.0", "image: torchpod:latest", "image-tag-moves"),
    (
        "component-spread-zones",
        "        matchLabelKeys:\n        - pod-template-hash\n        maxSkew",
        "        maxSkew",
        "spread-counts-revisions",
    ),
    (
        "component-qos-guaranteed",
        "spec:\n  selector:",
        "spec:\n  strategy: { rollingUpdate: { maxUnavailable: 0 } }\n  selector:",
        "rollout-needs-spare-gpu",
    ),
    (
        "component-spread-hosts",
        "app: ml-model\n            matchLabelKeys",
        "app: ml-modle\n            matchLabelKeys",
        "anti-affinity-misses-self",
    ),
    // Budgets.
    ("strategy-rolling", "maxUnavailable: 1\n  selector", "maxUnavailable: 0\n  selector", "budget-allows-nothing"),
    ("strategy-rolling", "maxUnavailable: 1\n  selector", "minAvailable: 10\n  selector", "budget-allows-nothing"),
    ("strategy-rolling", "maxUnavailable: 1\n  selector", "minAvailable: '5'\n  selector", "value-refused"),
    ("strategy-rolling", "maxUnavailable: 1\n  selector", "selector", "budget-allows-nothing"),
    (
        "strategy-rolling",
        "matchLabels:\n      app: ml-model\n  unhealthy",
        "matchLabels:\n      app: ml-modle\n  unhealthy",
        "budget-selects-nothing",
    ),
    ("strategy-rolling", "  unhealthyPodEvictionPolicy: AlwaysAllow\n", "", "budget-guards-broken-pods"),
    // Resources.
    ("strategy-rolling", "memory: 2Gi", "memory: 2GB", "value-refused"),
    ("strategy-rolling", "memory: 2Gi", "memory: 8Gi", "request-above-limit"),
    (
        "component-qos-guaranteed",
        "            nvidia.com/gpu: \"1\"\n          requests",
        "          requests",
        "gpu-limit-differs",
    ),
    ("component-qos-guaranteed", "effect: NoSchedule", "effect: NoExecute", "gpu-toleration-missing"),
    ("component-qos-guaranteed", "        sizeLimit: 1Gi\n", "", "memory-volume-unbounded"),
    ("namespace-resource-quota", "requests.nvidia.com/gpu", "limits.nvidia.com/gpu", "quota-device-key"),
    ("namespace-resource-quota", "limits.cpu", "limit.cpu", "quota-key-unknown"),
    ("namespace-limit-range", "cpu: 100m", "cpu: 2", "limit-range-contradicts-itself"),
    // Names.
    ("strategy-rolling", "serviceAccountName: ml-model", "serviceAccountName: ml-modle", "reference-misspelt"),
    ("component-autoscaling", "    name: ml-model\n", "    name: ml-modle\n", "reference-misspelt"),
    ("component-autoscaling", "spec:\n  selector:", "spec:\n  replicas: 3\n  selector:", "autoscaler-beside-replicas"),
    ("service-headless-training", "name: tmp\n      enable", "name: temp\n      enable", "volume-missing"),
    ("service-headless-training", "  clusterIP: None\n", "", "stateful-service-not-headless"),
    ("strategy-rolling", "name: ml-model-service", "name: ml_model_service", "name-refused"),
    // What is no longer there, or is not yet.
    ("strategy-rolling", "apiVersion: policy/v1", "apiVersion: policy/v1beta1", "api-removed"),
    ("service-topology", "trafficDistribution: PreferSameNode", "topologyKeys: ['*']", "field-removed"),
    ("service-session-affinity", "sessionAffinity:", "clusterIP: None\n  sessionAffinity:", "affinity-on-headless"),
    // Flagger.
    ("strategy-canary-flagger", "stepWeight: 10", "stepWeigth: 10", "field-unknown"),
    ("strategy-canary-flagger", "    threshold: 5\n", "", "flagger-analysis-incomplete"),
    ("strategy-canary-flagger", "thresholdRange:\n        max: 500", "threshold: 500", "flagger-threshold-old"),
    ("strategy-canary-flagger", "      thresholdRange:\n        max: 500\n", "", "flagger-range-empty"),
    (
        "strategy-canary-flagger",
        "templateRef:\n        name: request-duration",
        "templateRef:\n        name: duration",
        "flagger-template-missing",
    ),
    ("strategy-canary-flagger", "type: rollout", "type: pre-rollout", "flagger-without-traffic"),
    (
        "strategy-canary-flagger",
        "app.kubernetes.io/name: torchpod\n  unhealthy",
        "app: ml-model\n  unhealthy",
        "flagger-budget-misses-primary",
    ),
    (
        "strategy-canary-flagger",
        "name: flagger-loadtester\nspec:\n  ports",
        "name: ml-model\nspec:\n  ports",
        "flagger-owns-service",
    ),
];

#[test]
fn a_slip_in_what_is_shipped_is_found_by_the_rule_that_knows_it() {
    let mut missed = Vec::new();
    for (name, right, wrong, rule) in SLIPS {
        let path = format!("{}/../k8s/rendered/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(text.contains(right), "{name} no longer has {right:?}");
        let tells =
            |text: &str| findings(text, &Given::default()).iter().any(|told| told.starts_with(&format!("{rule}: ")));
        assert!(!tells(&text), "{name} has it as it is: {rule}");
        if !tells(&text.replacen(right, wrong, 1)) {
            missed.push(format!("{name}: {wrong:?}: {rule}"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
