//! Large files. What takes a second when optimised may take ten here.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use kubectl_torchpod::lint::{self, Format, Given};
use kubectl_torchpod::manifest::{Manifests, Source};

const DOCUMENTS: usize = 5_000;

/// Deployments with probes, each with a Service, a budget, an autoscaler and a quota's share, all of one namespace.
fn many() -> String {
    let mut text = String::new();
    for number in 0..DOCUMENTS / 4 {
        let _ = write!(
            text,
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: web-{number} }}\nspec:\n  selector:\n    matchLabels: {{ app: web-{number}, track: stable }}\n  \
             template:\n    metadata:\n      labels: {{ app: web-{number}, track: stable, team: ml }}\n    spec:\n      terminationGracePeriodSeconds: 45\n      containers:\n      \
             - name: model\n        image: torchpod:0.1.0\n        args: [serve, /models]\n        ports:\n        - {{ name: http, containerPort: 8080 }}\n        \
             startupProbe:\n          httpGet: {{ path: /startup, port: http }}\n          failureThreshold: 12\n          periodSeconds: 5\n        \
             livenessProbe:\n          httpGet: {{ path: /health, port: http }}\n          timeoutSeconds: 5\n        readinessProbe:\n          httpGet: {{ path: /ready, port: http }}\n        \
             resources:\n          requests: {{ cpu: \"1\", memory: 1Gi }}\n          limits: {{ cpu: \"1\", memory: 1Gi }}\n---\n\
             apiVersion: v1\nkind: Service\nmetadata: {{ name: web-{number} }}\nspec:\n  selector: {{ app: web-{number}, team: ml }}\n  ports:\n  - {{ port: 80, targetPort: http }}\n---\n\
             apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{ name: web-{number} }}\nspec:\n  maxUnavailable: 1\n  unhealthyPodEvictionPolicy: AlwaysAllow\n  \
             selector:\n    matchLabels: {{ app: web-{number} }}\n---\n\
             apiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: {{ name: web-{number} }}\nspec:\n  maxReplicas: 4\n  \
             scaleTargetRef: {{ apiVersion: apps/v1, kind: Deployment, name: web-{number} }}\n---\n"
        );
    }
    text
}

#[test]
fn five_thousand_documents_are_read_in_seconds() {
    let text = many();
    let start = Instant::now();
    let manifests = Manifests::parse(vec![Source { name: "many.yaml".to_owned(), text, found: false }]);
    let parsed = start.elapsed();
    let findings = lint::check(&manifests, &Given::default());
    let checked = start.elapsed();
    let told = lint::write(Format::Text, &manifests, &findings, false);
    let total = start.elapsed();
    println!("{DOCUMENTS} documents: {parsed:?} to read, {checked:?} with rules, {total:?} with the text");
    assert_eq!(manifests.objects.len(), DOCUMENTS);
    assert!(findings.is_empty(), "{told}");
    assert!(total < Duration::from_secs(10), "{total:?}");
}

#[test]
fn as_many_findings_are_told_in_seconds() {
    // No selector finds its pods any more: not a Deployment's, not a Service's.
    let text = many().replace("labels: { app: web-", "labels: { app: other-");
    let start = Instant::now();
    let manifests = Manifests::parse(vec![Source { name: "many.yaml".to_owned(), text, found: false }]);
    let findings = lint::check(&manifests, &Given::default());
    let checked = start.elapsed();
    let told = lint::write(Format::Text, &manifests, &findings, false);
    println!("{checked:?} to check; {} findings in {:?}", findings.len(), start.elapsed());
    assert!(findings.len() >= DOCUMENTS / 2 && told.len() > findings.len() * 100);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}
