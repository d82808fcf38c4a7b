//! Rolling updates, in the lesson's three variants, and back again in the middle of one.

use loopback::{Cluster, Load, Rendered, Scale, Version};

const NAME: &str = "ml-model";

/// Rolls from one version to the next until enough requests were sent; none may be lost, and no pod be missed.
fn roll(strategy: &str, scale: Scale) {
    let cluster = Cluster::with(&Rendered::read(strategy), scale);
    let load = Load::on(&cluster);
    let mut number = 1;
    while number == 1 || load.sent() < scale.requests {
        number += 1;
        let label = format!("v{number}");
        cluster.update(NAME, Version::good(&label));
        cluster.wait_for_rollout(NAME);
        cluster.settle("the last old pod is gone");
        assert_eq!(cluster.count(20).into_keys().collect::<Vec<_>>(), [label]);
    }
    load.assert_nothing_was_lost(scale.requests);
    cluster.assert_promise_was_kept(NAME);
    cluster.assert_all_ended_well();
}

/// Goes back when a part of the pods are new.
fn undo(scale: Scale) {
    let cluster = Cluster::with(&Rendered::read("strategy-rolling"), scale);
    let load = Load::on(&cluster);
    let mut times = 0;
    while times == 0 || load.sent() < scale.requests {
        times += 1;
        let first = cluster.look(|state| state.pods.len());
        cluster.update(NAME, Version::good("v2"));
        cluster.wait_until("a new pod serves", |state, _| {
            state.pods.iter().any(|pod| pod.id >= first && state.route().rules.contains(&pod.id))
        });
        assert!(cluster.deployment(NAME, |deployment| deployment.sizes().len() == 2), "it is in the middle");
        cluster.undo(NAME);
        cluster.settle("the old version is back");
        assert_eq!(cluster.count(20).into_keys().collect::<Vec<_>>(), ["v1"]);
    }
    load.assert_nothing_was_lost(scale.requests);
    cluster.assert_promise_was_kept(NAME);
    cluster.assert_all_ended_well();
}

#[test]
fn a_rolling_update_loses_no_request_and_keeps_its_promise() {
    roll("strategy-rolling", Scale::few(4));
}

#[test]
fn a_conservative_rollout_loses_no_request_and_never_has_a_pod_less() {
    roll("strategy-rolling-conservative", Scale::few(3));
}

#[test]
fn an_aggressive_rollout_loses_no_request_and_keeps_its_promise() {
    roll("strategy-rolling-aggressive", Scale::few(4));
}

#[test]
fn an_undo_in_the_middle_loses_no_request() {
    undo(Scale::few(6));
}

#[test]
fn what_is_in_flight_when_a_pod_is_told_to_end_is_answered() {
    let cluster = Cluster::with(&Rendered::read("strategy-rolling"), Scale::few(2));
    cluster.update(NAME, Version::slow("v2"));
    cluster.wait_for_service("slow pods are there");
    let load = Load::on(&cluster);
    cluster.update(NAME, Version::slow("v3"));
    cluster.settle("the last old pod is gone");
    load.assert_nothing_was_lost(30);
    cluster.assert_all_ended_well();
}

/// What the tests above would see, were there nothing that ends a pod well: they do not pass by themselves.
#[test]
fn without_time_for_the_routes_to_change_requests_are_lost() {
    let cluster = Cluster::with(&Rendered::read("strategy-rolling"), Scale::few(3));
    // The pods that end are the old ones, so that these are to be without it.
    cluster.update_with(NAME, Version::good("v2"), |pod| pod.containers[0].lifecycle = None);
    cluster.wait_for_service("pods without preStop are there");
    let load = Load::on(&cluster);
    cluster.update(NAME, Version::good("v3"));
    cluster.wait_for_service("they are gone");
    let tally = load.stop();
    assert!(!tally.lost.is_empty(), "a pod that ends at once is still routed to");
}

#[test]
#[ignore = "soak: ten pods, the manifest's own probes and 20 000 requests of each kind, for minutes"]
fn soak_a_rolling_update_of_ten_pods() {
    roll("strategy-rolling", Scale::full());
}

#[test]
#[ignore = "soak: ten pods, the manifest's own probes and 20 000 requests of each kind, for minutes"]
fn soak_a_conservative_rollout_of_ten_pods() {
    roll("strategy-rolling-conservative", Scale::full());
}

#[test]
#[ignore = "soak: ten pods, the manifest's own probes and 20 000 requests of each kind, for minutes"]
fn soak_an_aggressive_rollout_of_ten_pods() {
    roll("strategy-rolling-aggressive", Scale::full());
}

#[test]
#[ignore = "soak: ten pods, the manifest's own probes and 20 000 requests of each kind, for minutes"]
fn soak_an_undo_in_the_middle_of_ten_pods() {
    undo(Scale::full());
}
