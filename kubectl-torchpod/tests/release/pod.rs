//! What a Deployment and its pods are taken for, as an API server has them.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kubectl_torchpod::release::track::{Odd, Track, which};
use serde_json::{Value, json};

use crate::world::{NEW, OLD, ago, now};

fn deployment(more: impl FnOnce(&mut Value)) -> Deployment {
    let mut object = json!({
        "metadata": {"name": "web", "resourceVersion": "7", "generation": 3,
            "annotations": {"torchpod.dev/moved-at": ago(900).to_string()}},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "progressDeadlineSeconds": 300,
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "model", "image": NEW}]}}},
        "status": {"observedGeneration": 3, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
    });
    more(&mut object);
    serde_json::from_value(object).unwrap()
}

/// A pod that has been ready for a minute.
fn pod(name: &str, more: impl FnOnce(&mut Value)) -> Pod {
    let mut object = json!({
        "metadata": {"name": name, "creationTimestamp": ago(600).to_string()},
        "spec": {"containers": [{"name": "model", "image": NEW}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": ago(60).to_string()}],
            "containerStatuses": [{"name": "model", "image": NEW, "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}}}],
        },
    });
    more(&mut object);
    serde_json::from_value(object).unwrap()
}

/// One that is not ready, and waits for a reason.
fn waiting(name: &str, reason: &str, message: &str, restarts: i32) -> Pod {
    pod(name, |pod| {
        pod["status"]["conditions"][0]["status"] = json!("False");
        let container = &mut pod["status"]["containerStatuses"][0];
        container["ready"] = json!(false);
        container["restartCount"] = json!(restarts);
        container["state"] = json!({"waiting": {"reason": reason, "message": message}});
        if restarts > 0 {
            container["lastState"] = json!({"terminated": {"exitCode": 3, "message": "models/digits: no archive\n"}});
        }
    })
}

fn track(deployment: &Deployment, pods: &[Pod]) -> Track {
    Track::of(deployment, pods, None, now()).unwrap()
}

#[test]
fn only_pods_of_the_newest_image_that_stay_count() {
    let seen = |more: fn(&mut Value)| track(&deployment(|_| ()), &[pod("a", |_| ()), pod("b", more)]).ready;
    assert_eq!(seen(|_| ()), 2);
    assert_eq!(seen(|pod| pod["spec"]["containers"][0]["image"] = json!(OLD)), 1);
    assert_eq!(seen(|pod| pod["metadata"]["deletionTimestamp"] = json!(ago(5).to_string())), 1);
    assert_eq!(seen(|pod| pod["status"]["phase"] = json!("Failed")), 1, "evicted");
    assert_eq!(seen(|pod| pod["status"]["conditions"] = json!([])), 1);
    let patient = deployment(|object| object["spec"]["minReadySeconds"] = json!(90));
    assert_eq!(track(&patient, &[pod("a", |_| ())]).ready, 0, "ready for a minute is not available yet");
}

#[test]
fn it_is_settled_once_the_controller_has_seen_it_and_no_old_pod_is_left() {
    let settled = |more: fn(&mut Value)| track(&deployment(more), &[]).is_settled;
    assert!(settled(|_| ()));
    assert!(!settled(|object| object["metadata"]["generation"] = json!(4)));
    assert!(!settled(|object| object["status"]["replicas"] = json!(3)));
    assert!(!settled(|object| object["status"]["updatedReplicas"] = json!(1)));
    assert!(!settled(|object| object["status"] = json!(null)));
}

#[test]
fn a_pod_that_is_missing_or_not_ready_for_too_long_is_overdue() {
    let starting = |since| {
        pod("b", |pod| {
            pod["status"]["conditions"][0] =
                json!({"type": "Ready", "status": "False", "lastTransitionTime": ago(since).to_string()});
        })
    };
    let overdue = |pods: &[Pod]| track(&deployment(|_| ()), pods).overdue(now());
    assert_eq!(overdue(&[pod("a", |_| ()), starting(299)]), None);
    assert_eq!(overdue(&[pod("a", |_| ()), starting(301)]), Some(Duration::from_secs(301)));
    assert_eq!(overdue(&[pod("a", |_| ())]), Some(Duration::from_mins(15)), "nobody has made the other one");
    assert_eq!(overdue(&[pod("a", |_| ()), pod("b", |_| ()), starting(301)]), None, "as many as are wanted are ready");
}

/// A pod, what of it lasts, and what it waits for.
type Case<'a> = (fn() -> Pod, Option<&'a str>, Option<&'a str>);

#[test]
fn what_lasts_is_told_from_what_may_pass() {
    let told = |pod: Pod| {
        let track = track(&deployment(|_| ()), &[pod]);
        (track.trouble, track.pending)
    };
    let cases: [Case; 7] = [
        (
            || waiting("a", "CrashLoopBackOff", "back-off 10s", 2),
            Some("pod a: CrashLoopBackOff after 2 restarts, exit code 3: models/digits: no archive"),
            Some("pod a: CrashLoopBackOff: back-off 10s"),
        ),
        (
            || waiting("a", "ImagePullBackOff", "not found", 0),
            Some("pod a: ImagePullBackOff: not found"),
            Some("pod a: ImagePullBackOff: not found"),
        ),
        // A registry may be back in a moment.
        (|| waiting("a", "ErrImagePull", "timeout", 0), None, Some("pod a: ErrImagePull: timeout")),
        (|| waiting("a", "ContainerCreating", "", 0), None, None),
        (
            || waiting("a", "PodInitializing", "", 3),
            Some("pod a: its container keeps ending after 3 restarts, exit code 3: models/digits: no archive"),
            Some("pod a: PodInitializing:"),
        ),
        // It was restarted long ago, and serves.
        (|| pod("a", |pod| pod["status"]["containerStatuses"][0]["restartCount"] = json!(9)), None, None),
        (
            || {
                pod("a", |pod| {
                    pod["status"] = json!({"phase": "Pending", "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}]});
                })
            },
            None,
            Some("pod a: no node takes it: 0/3 nodes"),
        ),
    ];
    for (pod, lasting, passing) in cases {
        let (trouble, pending) = told(pod());
        assert_eq!(trouble.as_deref(), lasting);
        assert_eq!(pending.as_deref().map(str::trim), passing);
    }
}

#[test]
fn pods_that_cannot_be_made_say_why() {
    let quota = deployment(|object| {
        object["status"]["conditions"] = json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}]);
    });
    assert_eq!(track(&quota, &[]).pending.as_deref(), Some("FailedCreate: exceeded quota"));
    let paused = deployment(|object| object["spec"]["paused"] = json!(true));
    assert!(track(&paused, &[]).pending.unwrap().starts_with("it is paused"));
}

#[test]
fn the_container_is_the_named_one_or_the_only_one_or_kubectls() {
    let two = |annotated: Option<&str>| {
        deployment(|object| {
            let template = &mut object["spec"]["template"];
            template["spec"]["containers"] =
                json!([{"name": "proxy", "image": "proxy:1"}, {"name": "model", "image": NEW}]);
            if let Some(name) = annotated {
                template["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/default-container": name});
            }
        })
    };
    let name = |deployment: &Deployment, named| which(deployment, named).map(|container| container.name.clone());
    assert_eq!(name(&deployment(|_| ()), None), Ok("model".to_owned()));
    assert_eq!(name(&two(None), Some("proxy")), Ok("proxy".to_owned()));
    assert_eq!(name(&two(Some("model")), None), Ok("model".to_owned()));
    assert!(matches!(name(&two(None), None), Err(Odd::WhichContainer { .. })));
    assert!(matches!(name(&two(None), Some("modle")), Err(Odd::NoContainer { .. })));
}
