//! Pods: what they say of themselves, and what they answer.

use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{ListParams, LogParams, Patch, PatchParams, WatchParams};
use loopback::Version;
use serde_json::{Value, json};

use crate::served::{Served, until};

const NAME: &str = "ml-model";

fn container(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

fn waits_for(pod: &Pod) -> Option<&str> {
    container(pod)?.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}

fn is_ready(pod: &Pod) -> bool {
    container(pod).is_some_and(|container| container.ready)
}

async fn patch(served: &Served, container: Value) {
    let mut named = container;
    named["name"] = json!("model");
    let patch = json!({"spec": {"template": {"spec": {"containers": [named]}}}});
    served.deployments().await.patch(NAME, &PatchParams::default(), &Patch::Strategic(&patch)).await.unwrap();
}

#[tokio::test]
async fn an_image_that_nobody_knows_is_not_pulled_until_somebody_does() {
    let served = Served::new("strategy-rolling", 1);
    let pods = served.all::<Pod>().await;
    let mut watch = pods.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    patch(&served, json!({"image": "torchpod:3"})).await;
    let waiting = until(&mut watch, "the new pod waits", |pod| waits_for(pod) == Some("ImagePullBackOff")).await;
    assert_eq!(waiting.status.unwrap().phase.as_deref(), Some("Pending"));
    served.cluster.register("torchpod:3", Version::good("v3"));
    until(&mut watch, "the new pod is ready", |pod| pod.metadata.name == waiting.metadata.name && is_ready(pod)).await;
}

#[tokio::test]
async fn a_container_that_crashes_says_how_often_and_with_what() {
    let models = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(models.path().join("broken/1")).unwrap();
    std::fs::write(models.path().join("broken/1/model.pt"), "no archive").unwrap();
    let served = Served::new("strategy-rolling", 1);
    served.cluster.register("torchpod:broken", Version::crashing("v2", models.path().to_owned()));
    let pods = served.all::<Pod>().await;
    let mut watch = pods.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    patch(&served, json!({"image": "torchpod:broken"})).await;
    let crashed = until(&mut watch, "it backs off", |pod| waits_for(pod) == Some("CrashLoopBackOff")).await;
    let container = container(&crashed).unwrap();
    assert!(container.restart_count == 2 && !container.ready, "{container:?}");
    let last = container.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    let name = crashed.metadata.name.unwrap();
    let log = pods.logs(&name, &LogParams { tail_lines: Some(5), ..LogParams::default() }).await.unwrap();
    assert!(log.contains("broken") && log.lines().count() == 5, "{log}");
}

#[tokio::test]
async fn what_is_patched_into_a_template_counts_for_the_process() {
    let served = Served::new("strategy-rolling", 1);
    let arguments = json!(["serve", "/models", "--label", "patched"]);
    patch(&served, json!({"args": arguments, "env": [{"name": "TORCHPOD_LOG_FORMAT", "value": "compact"}]})).await;
    served.cluster.wait_for_rollout(NAME);
    served.cluster.wait_for_service("the rules have followed");
    assert_eq!(served.cluster.count(5).into_keys().collect::<Vec<_>>(), ["patched"]);
}

#[tokio::test]
async fn pods_and_services_are_asked_through_the_server() {
    let served = Served::new("strategy-rolling", 1);
    let client = served.client().await;
    let pod =
        served.all::<Pod>().await.list(&ListParams::default()).await.unwrap().items[0].metadata.name.clone().unwrap();
    let sample = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/digits/sample.json")).unwrap();
    let ask = async |method: &str, path: &str, body: &[u8]| {
        let request = axum::http::Request::builder().method(method).header("content-type", "application/json");
        let request = request.uri(format!("/api/v1/namespaces/default/{path}")).body(body.to_vec()).unwrap();
        client.request_text(request).await
    };
    for path in [format!("pods/{pod}:probes/proxy/ready"), format!("pods/{pod}:8081/proxy/ready?verbose")] {
        let answer: Value = serde_json::from_str(&ask("GET", &path, b"").await.unwrap()).unwrap();
        assert_eq!(
            (&answer["status"], !answer["verbose"].is_null()),
            (&json!("ready"), path.contains("verbose")),
            "{path}"
        );
    }
    let metrics = ask("GET", &format!("pods/http:{pod}:/proxy/metrics"), b"").await.unwrap();
    assert!(metrics.contains("torchpod_requests_total"), "{metrics}");
    let answer = ask("POST", "services/ml-model-service:http/proxy/predict", &sample).await.unwrap();
    assert!(answer.contains("\"label\":\"7\""), "{answer}");
    for (path, code) in [
        (format!("pods/{pod}:probes/proxy/nowhere"), 404),
        (format!("pods/{pod}:4444/proxy/"), 503),
        ("pods/nobody/proxy/".to_owned(), 404),
        ("services/ml-model-service:none/proxy/".to_owned(), 503),
    ] {
        assert!(ask("GET", &path, b"").await.is_err());
        let status = served.api.asked().last().map(|asked| asked.status).unwrap();
        assert_eq!(status, code, "{path}");
    }
}

#[tokio::test]
async fn a_deleted_pod_ends_well_and_another_comes() {
    let served = Served::new("strategy-rolling", 1);
    let pods = served.all::<Pod>().await;
    let first = pods.list(&ListParams::default()).await.unwrap().items[0].metadata.name.clone().unwrap();
    pods.delete(&first, &kube::api::DeleteParams::default()).await.unwrap();
    let ending = pods.get(&first).await.unwrap();
    assert!(ending.metadata.deletion_timestamp.is_some() && is_ready(&ending), "preStop lets it serve on");
    served.cluster.settle("another is there");
    assert!(pods.get_opt(&first).await.unwrap().is_none());
    assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 1);
    served.cluster.assert_all_ended_well();
    assert!(served.cluster.look(|state| state.pods[0].exits[0].told.unwrap() > Duration::from_secs(5)));
}
