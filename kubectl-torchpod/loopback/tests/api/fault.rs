//! What a test may break, as a client sees it.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use loopback::Fault;
use serde_json::json;

use crate::served::{Served, code};

async fn lease(served: &Served) -> kube::Api<Lease> {
    let leases = served.all::<Lease>().await;
    let mut lease = Lease::default();
    lease.metadata.name = Some("release".to_owned());
    leases.create(&PostParams::default(), &lease).await.unwrap();
    leases
}

#[tokio::test]
async fn every_third_write_is_a_conflict_and_is_not_done() {
    let served = Served::empty();
    let leases = lease(&served).await;
    served.api.fault(Fault::Conflicts(3));
    let mut refused = Vec::new();
    for number in 1..=7 {
        let patch = json!({"metadata": {"annotations": {"number": number.to_string()}}});
        let written = leases.patch("release", &PatchParams::default(), &Patch::Merge(&patch)).await;
        if written.is_err() {
            assert_eq!(code(written), 409);
            refused.push(number);
            let annotations = leases.get("release").await.unwrap().metadata.annotations.unwrap();
            assert_eq!(annotations["number"], (number - 1).to_string());
        }
    }
    assert_eq!(refused, [3, 6]);
    let conflicts = served.api.asked().iter().filter(|one| (one.method.as_str(), one.status) == ("PATCH", 409)).count();
    assert_eq!(conflicts, 2);
}

#[tokio::test]
async fn a_dropped_watch_breaks_and_goes_on_from_where_it_was() {
    let served = Served::empty();
    let leases = lease(&served).await;
    let version = leases.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut watch = leases.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    served.api.fault(Fault::DroppedWatches);
    assert!(watch.next().await.is_none_or(|event| event.is_err()), "it has not ended as it should");
    let patch = json!({"metadata": {"annotations": {"while": "nobody watched"}}});
    leases.patch("release", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    let mut watch = leases.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    assert!(matches!(watch.next().await.unwrap().unwrap(), WatchEvent::Modified(_)));
}

#[tokio::test]
async fn a_version_that_is_forgotten_is_gone_and_a_new_list_is_not() {
    let served = Served::empty();
    let leases = lease(&served).await;
    let version = leases.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut watch = leases.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    served.api.fault(Fault::Gone);
    assert!(watch.next().await.is_none_or(|event| event.is_err()));
    let mut watch = leases.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    match watch.next().await.unwrap().unwrap() {
        WatchEvent::Error(status) => assert_eq!((status.code, status.reason.as_str()), (410, "Expired")),
        other => panic!("{other:?}"),
    }
    let version = leases.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut events = leases.watch(&WatchParams::default().timeout(1), &version).await.unwrap().boxed();
    assert!(matches!(events.next().await.unwrap().unwrap(), WatchEvent::Bookmark(_)), "all was well until it ended");
}

#[tokio::test]
async fn nobody_reaches_it_for_a_time_and_then_everything_is_as_it_was() {
    let served = Served::empty();
    let leases = lease(&served).await;
    let mut watch = leases.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    assert!(matches!(watch.next().await.unwrap().unwrap(), WatchEvent::Added(_)));
    served.api.fault(Fault::Unreachable(Duration::from_mins(10)));
    assert!(watch.next().await.is_none_or(|event| event.is_err()), "what was open breaks");
    for _ in 0..3 {
        assert!(!matches!(leases.get("release").await.unwrap_err(), kube::Error::Api(_)), "what is new is refused");
    }
    served.api.heal();
    let begun = Instant::now();
    while leases.get("release").await.is_err() {
        assert!(begun.elapsed() < crate::served::PATIENCE);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    served.api.fault(Fault::Unreachable(Duration::from_millis(300)));
    while leases.get("release").await.is_err() {
        assert!(begun.elapsed() < crate::served::PATIENCE, "it is over by itself");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_client_may_do_what_its_rules_say_and_is_told_what_it_lacks() {
    let served = Served::empty();
    let leases = lease(&served).await;
    let rule = |verbs: &[&str], names: &[&str]| PolicyRule {
        api_groups: Some(vec!["coordination.k8s.io".to_owned()]),
        resources: Some(vec!["leases".to_owned()]),
        resource_names: (!names.is_empty()).then(|| names.iter().map(|name| (*name).to_owned()).collect()),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    };
    served.api.permit(vec![rule(&["list"], &[]), rule(&["get"], &["release"])]);
    leases.get("release").await.unwrap();
    assert_eq!(code(leases.get("other").await), 403);
    leases.list(&ListParams::default()).await.unwrap();
    assert_eq!(code(leases.watch(&WatchParams::default(), "0").await.map(|_| ())), 403);
    let patch = json!({"metadata": {"annotations": {"new": "yes"}}});
    match leases.patch("release", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap_err() {
        kube::Error::Api(status) => {
            let lacks = "cannot patch resource \"leases\" in API group \"coordination.k8s.io\"";
            assert!(status.code == 403 && status.message.contains(lacks), "{status:?}");
        }
        other => panic!("{other}"),
    }
    assert_eq!(leases.get("release").await.unwrap().metadata.annotations, None);
}

#[tokio::test]
async fn a_slow_server_answers_late() {
    let served = Served::empty();
    let leases = lease(&served).await;
    served.api.fault(Fault::Slow(Duration::from_millis(500)));
    let begun = Instant::now();
    leases.get("release").await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(500));
}
