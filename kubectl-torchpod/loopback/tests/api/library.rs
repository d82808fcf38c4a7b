//! Objects, as kube-rs reads and writes them.

use futures_util::StreamExt as _;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, WatchEvent, WatchParams};
use serde_json::json;

use crate::served::{Served, code, until};

const NAME: &str = "ml-model";

/// The reason of a condition.
fn reason(status: &DeploymentStatus, kind: &str) -> String {
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|one| one.type_.as_deref() == Some(kind)).and_then(|one| one.reason.clone()).unwrap_or_default()
}

fn is_done(deployment: &Deployment) -> bool {
    let (spec, status) = (&deployment.spec, deployment.status.clone().unwrap_or_default());
    status.observed_generation >= deployment.metadata.generation
        && [status.updated_replicas, status.replicas, status.available_replicas] == [spec.replicas; 3]
}

#[tokio::test]
async fn a_patched_image_is_rolled_out_and_a_watch_sees_it_all() {
    let served = Served::new("strategy-rolling", 2);
    let deployments = served.deployments().await;
    let list = deployments.list(&ListParams::default()).await.unwrap();
    let before = list.items[0].clone();
    assert!(is_done(&before), "{:?}", before.status);
    assert_eq!(reason(&before.status.unwrap(), "Progressing"), "NewReplicaSetAvailable");

    let version = list.metadata.resource_version.unwrap();
    let mut watch = deployments.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    let patch = json!({
        "metadata": {"annotations": {"kubernetes.io/change-cause": "a new model"}},
        "spec": {"template": {"spec": {"containers": [{"name": "model", "image": "torchpod:0.2.0"}]}}},
    });
    let written = deployments.patch(NAME, &PatchParams::default(), &Patch::Strategic(&patch)).await.unwrap();
    let generation = before.metadata.generation.unwrap() + 1;
    assert_eq!(written.metadata.generation, Some(generation));
    let container = &written.spec.template.spec.as_ref().unwrap().containers[0];
    assert!(
        container.image.as_deref() == Some("torchpod:0.2.0") && container.readiness_probe.is_some(),
        "it was merged"
    );

    let moving = until(&mut watch, "the rollout begins", |one: &Deployment| {
        one.status.as_ref().is_some_and(|status| status.observed_generation == Some(generation))
    });
    assert!(!is_done(&moving.await));
    let done = until(&mut watch, "the rollout is done", is_done).await;
    let status = done.status.unwrap();
    assert_eq!(
        [reason(&status, "Available"), reason(&status, "Progressing")],
        ["MinimumReplicasAvailable", "NewReplicaSetAvailable"]
    );
    served.cluster.wait_for_service("the rules have followed");
    assert_eq!(served.cluster.count(10).into_keys().collect::<Vec<_>>(), ["v2"]);

    let sets = served.all::<ReplicaSet>().await.list(&ListParams::default()).await.unwrap().items;
    let revision =
        |set: &ReplicaSet| set.metadata.annotations.as_ref().unwrap()["deployment.kubernetes.io/revision"].clone();
    let mut sizes: Vec<_> = sets.iter().map(|set| (revision(set), set.spec.replicas.unwrap())).collect();
    sizes.sort();
    assert_eq!(sizes, [("1".to_owned(), 0), ("2".to_owned(), 2)]);
    let new = sets.iter().find(|set| revision(set) == "2").unwrap();
    assert_eq!(new.metadata.annotations.as_ref().unwrap()["kubernetes.io/change-cause"], "a new model");

    let hash = new.metadata.labels.as_ref().unwrap()["pod-template-hash"].clone();
    let own = ListParams::default().labels(&format!("pod-template-hash={hash}"));
    let pods = served.all::<Pod>().await.list(&own).await.unwrap().items;
    assert_eq!(pods.len(), 2);
    assert!(
        pods.iter()
            .all(|pod| pod.metadata.owner_references.as_ref().unwrap()[0].uid == *new.metadata.uid.as_ref().unwrap())
    );
}

#[tokio::test]
async fn a_scale_is_read_and_written_and_the_rest_of_a_paused_deployment_waits() {
    let served = Served::new("strategy-rolling", 1);
    let deployments = served.deployments().await;
    let scale = deployments.get_scale(NAME).await.unwrap();
    assert_eq!((scale.spec.unwrap().replicas, scale.status.unwrap().replicas), (Some(1), 1));
    let merge = |value: serde_json::Value| Patch::Merge(value);
    let parameters = PatchParams::default();
    deployments.patch(NAME, &parameters, &merge(json!({"spec": {"paused": true}}))).await.unwrap();
    let container = json!({"name": "model", "image": "torchpod:0.2.0"});
    let image = Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": [container]}}}}));
    deployments.patch(NAME, &parameters, &image).await.unwrap();
    deployments.patch_scale(NAME, &parameters, &merge(json!({"spec": {"replicas": 2}}))).await.unwrap();
    let paused =
        |deployment: &Deployment| reason(deployment.status.as_ref().unwrap(), "Progressing") == "DeploymentPaused";
    let mut watch = deployments.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    until(&mut watch, "two pods of the old version", |one: &Deployment| {
        paused(one) && one.status.as_ref().unwrap().available_replicas == Some(2)
    })
    .await;
    assert_eq!(served.all::<ReplicaSet>().await.list(&ListParams::default()).await.unwrap().items.len(), 1);
    deployments.patch(NAME, &parameters, &merge(json!({"spec": {"paused": false}}))).await.unwrap();
    until(&mut watch, "two pods of the new version", |one| is_done(one) && !paused(one)).await;
    served.cluster.wait_for_service("the rules have followed");
    assert_eq!(served.cluster.count(10).into_keys().collect::<Vec<_>>(), ["v2"]);
}

#[tokio::test]
async fn who_writes_what_somebody_else_has_changed_hears_of_a_conflict() {
    let served = Served::empty();
    let leases = served.all::<Lease>().await;
    let (post, mut lease) = (PostParams::default(), Lease::default());
    lease.metadata.name = Some("release".to_owned());
    lease.spec = Some(LeaseSpec { holder_identity: Some("one".to_owned()), ..LeaseSpec::default() });
    let made = leases.create(&post, &lease).await.unwrap();
    assert_eq!(code(leases.create(&post, &lease).await), 409);
    assert_eq!(code(leases.replace("release", &post, &lease).await), 422, "a lease is never written blindly");
    let mut other = made.clone();
    other.spec.as_mut().unwrap().holder_identity = Some("other".to_owned());
    let other = leases.replace("release", &post, &other).await.unwrap();
    assert_eq!(code(leases.replace("release", &post, &made).await), 409);
    let old =
        json!({"metadata": {"resourceVersion": made.metadata.resource_version}, "spec": {"holderIdentity": "one"}});
    assert_eq!(code(leases.patch("release", &PatchParams::default(), &Patch::Merge(&old)).await), 409);
    assert_eq!(leases.get("release").await.unwrap(), other, "and nothing was done");
    let only = |version: Option<String>| {
        DeleteParams::default().preconditions(Preconditions { resource_version: version, uid: None })
    };
    assert_eq!(code(leases.delete("release", &only(made.metadata.resource_version)).await), 409);
    leases.delete("release", &only(other.metadata.resource_version)).await.unwrap();
    assert!(leases.get_opt("release").await.unwrap().is_none());
}

#[tokio::test]
async fn a_service_that_selects_others_has_their_addresses_and_a_rehearsal_changes_nothing() {
    let served = Served::new("strategy-blue-green", 1);
    let services = served.all::<Service>().await;
    let slices = served.all::<EndpointSlice>().await;
    let own = ListParams::default().labels("kubernetes.io/service-name=ml-model-service");
    let green = Patch::Merge(json!({"spec": {"selector": {"version": "green"}}}));
    let pods = async || {
        let endpoints = slices.list(&own).await.unwrap().items[0].endpoints.clone().unwrap();
        let ready = endpoints.into_iter().filter(|one| one.conditions.as_ref().unwrap().ready == Some(true));
        ready.map(|one| one.target_ref.unwrap().name.unwrap()).collect::<Vec<_>>()
    };
    assert!(pods().await[0].starts_with("ml-model-blue-"));
    let rehearsal = PatchParams { dry_run: true, ..PatchParams::default() };
    let shown = services.patch("ml-model-service", &rehearsal, &green).await.unwrap();
    assert_eq!(shown.spec.unwrap().selector.unwrap()["version"], "green");
    assert!(pods().await[0].starts_with("ml-model-blue-"), "nothing was changed");
    services.patch("ml-model-service", &PatchParams::default(), &green).await.unwrap();
    assert!(pods().await[0].starts_with("ml-model-green-") && pods().await.len() == 1);
}

#[tokio::test]
async fn a_watch_tells_who_comes_changes_and_goes_and_how_far_it_is() {
    let served = Served::empty();
    let leases = served.all::<Lease>().await;
    let make = async |name: &str, label: &str| {
        let mut lease = Lease::default();
        (lease.metadata.name, lease.metadata.labels) =
            (Some(name.to_owned()), Some([("own".to_owned(), label.to_owned())].into()));
        leases.create(&PostParams::default(), &lease).await.unwrap()
    };
    make("there", "yes").await;
    let parameters = WatchParams::default().labels("own=yes").timeout(1);
    let events = leases.watch(&parameters, "0").await.unwrap();
    make("new", "yes").await;
    make("others", "no").await;
    let relabel = async |label: &str| {
        let patch = json!({"metadata": {"labels": {"own": label}}});
        leases.patch("new", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap()
    };
    let gone = relabel("no").await;
    leases.delete("there", &DeleteParams::default()).await.unwrap();
    let told = events.map(|event| match event.unwrap() {
        WatchEvent::Added(one) => format!("+{}", one.metadata.name.unwrap()),
        WatchEvent::Modified(one) => format!("~{}", one.metadata.name.unwrap()),
        WatchEvent::Deleted(one) => format!("-{}", one.metadata.name.unwrap()),
        WatchEvent::Bookmark(mark) => {
            let version = |text: &str| text.parse::<u64>().unwrap();
            let last = gone.metadata.resource_version.as_deref().unwrap();
            assert!(version(&mark.metadata.resource_version) > version(last), "it is further than that");
            "|".to_owned()
        }
        WatchEvent::Error(error) => panic!("{error:?}"),
    });
    assert_eq!(told.collect::<Vec<_>>().await, ["+there", "+new", "-new", "-there", "|"]);
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_the_reason() {
    let served = Served::new("strategy-rolling", 0);
    let deployments = served.deployments().await;
    let known = deployments.get(NAME).await.unwrap();
    let strict =
        PatchParams { field_validation: Some(kube::api::ValidationDirective::Strict), ..PatchParams::default() };
    for (patch, expected, word) in [
        (json!({"spec": {"replicas": -1}}), 422, "spec.replicas"),
        (json!({"spec": {"replica": 1}}), 400, "unknown field \"spec.replica\""),
        (json!({"spec": {"replicas": "many"}}), 400, "cannot be handled as a Deployment"),
        (json!({"spec": {"selector": {"matchLabels": {"app": "other"}}}}), 422, "spec."),
        (json!({"spec": {"template": {"metadata": {"labels": {"app": "other"}}}}}), 422, "does not match template"),
        (json!({"spec": {"strategy": {"type": "Recreate"}}}), 422, "rollingUpdate: Forbidden"),
    ] {
        match deployments.patch(NAME, &strict, &Patch::Merge(&patch)).await.unwrap_err() {
            kube::Error::Api(status) => assert!(status.code == expected && status.message.contains(word), "{status:?}"),
            other => panic!("{other}"),
        }
    }
    assert_eq!(deployments.get(NAME).await.unwrap(), known);
    assert_eq!(code(deployments.get("nobody").await), 404);
    assert_eq!(code(served.all::<ReplicaSet>().await.delete("any", &DeleteParams::default()).await), 404);
}
