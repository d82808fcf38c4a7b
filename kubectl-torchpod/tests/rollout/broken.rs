//! Versions that do not get ready: the rollout stops where the arithmetic says, and everybody is served meanwhile.

use std::time::Duration;

use kubectl_torchpod::plan::{Asked, NewVersion};

use loopback::{Cluster, Load, Pod, Rendered, Scale, Version};

const NAME: &str = "ml-model";

/// What `kubectl torchpod plan` says of the end: the sizes of the `ReplicaSet`s, the old one first.
fn predicted(rendered: &Rendered, new_version: NewVersion, replicas: i32) -> Vec<i32> {
    let asked =
        Asked { load_time: Some(Duration::from_secs(2)), replicas: Some(replicas), new_version, ..Asked::default() };
    let plan = rendered.plan(&asked);
    assert_eq!(plan.end(), "deadline");
    plan.outcome.steps.last().expect("something happens").sets.iter().map(|set| set.size).collect()
}

/// Rolls to a version that is not fit, until the deadline tells of it, and back. `failed` says that it had its chance.
fn stop(strategy: &str, scale: Scale, version: Version, kind: NewVersion, failed: impl Fn(&Pod) -> bool) {
    let rendered = Rendered::read(strategy);
    let cluster = Cluster::with(&rendered, scale);
    let load = Load::on(&cluster);
    let first = cluster.look(|state| state.pods.len());
    // Ten minutes are nothing to wait for; it has to be longer than a start.
    cluster.patch_deadline(NAME, Duration::from_secs(50) / scale.haste);
    cluster.update(NAME, version);
    cluster.wait_until("every new pod has had its chance, and the deadline has passed", |state, _| {
        let mut new = state.pods.iter().filter(|pod| pod.id >= first);
        state.deployments[0].has_missed_its_deadline() && new.all(&failed)
    });
    let sizes: Vec<_> = cluster.deployment(NAME, |one| one.sizes().into_iter().map(|(_, size)| size).collect());
    let (spec, old) = cluster.look(|state| {
        let old = state.pods[..first].iter().filter(|pod| pod.stays() && pod.is_ready()).count();
        (state.deployments[0].spec(), i32::try_from(old).expect("a few pods"))
    });
    assert_eq!(sizes, predicted(&rendered, kind, spec.replicas), "it stops where the plan says");
    assert_eq!(
        (old, sizes.iter().sum()),
        (spec.least(), spec.most()),
        "as many as were promised, and as many as may be"
    );
    cluster.undo(NAME);
    cluster.settle("the old version is back");
    load.assert_nothing_was_lost(scale.requests);
    cluster.assert_promise_was_kept(NAME);
    assert_eq!(cluster.count(20).into_keys().collect::<Vec<_>>(), ["v1"]);
}

fn never_ready(strategy: &str, scale: Scale) {
    stop(strategy, scale, Version::never_ready("v2"), NewVersion::NeverReady, |pod| pod.started && !pod.is_ready());
}

fn crash(strategy: &str, scale: Scale) {
    let models = tempfile::tempdir().expect("a folder for models");
    std::fs::create_dir_all(models.path().join("broken/1")).expect("a folder");
    std::fs::write(models.path().join("broken/1/model.pt"), "no archive").expect("a file");
    let version = Version::crashing("v2", models.path().to_owned());
    let has_crashed = |pod: &Pod| pod.restarts > 0 && pod.exits.iter().all(|exit| exit.code == Some(3));
    stop(strategy, scale, version, NewVersion::Crash, has_crashed);
}

#[test]
fn a_version_that_never_gets_ready_stops_where_the_plan_says_and_nothing_is_lost() {
    never_ready("strategy-rolling", Scale::few(4));
}

#[test]
fn a_version_that_crashes_stops_where_the_plan_says_and_nothing_is_lost() {
    crash("strategy-rolling", Scale::few(4));
}

#[test]
#[ignore = "soak: ten pods, the manifest's own probes and 20 000 requests of each kind, for minutes"]
fn soak_a_version_that_never_gets_ready() {
    never_ready("strategy-rolling", Scale::full());
}

#[test]
#[ignore = "soak: ten pods, the manifest's own probes and 20 000 requests of each kind, for minutes"]
fn soak_a_version_that_crashes() {
    crash("strategy-rolling", Scale::full());
}
