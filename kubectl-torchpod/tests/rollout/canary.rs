//! A canary by replicas: a step at a time to all of it, and then its version becomes the stable one.

use loopback::{Cluster, Load, Rendered, Scale, Version};

const STABLE: &str = "ml-model-stable";
const CANARY: &str = "ml-model-canary";

/// `steps` are pods, stable and canary.
fn promote(scale: Scale, steps: &[(i32, i32)]) {
    let cluster = Cluster::with_new(&Rendered::read("strategy-canary"), CANARY, scale);
    let load = Load::on(&cluster);
    let stable = cluster.deployment(STABLE, |deployment| deployment.spec().replicas);
    for (stable, canary) in steps {
        // As the README says it: new pods first, where old ones are to leave altogether.
        cluster.scale(CANARY, *canary);
        cluster.wait_for_rollout(CANARY);
        cluster.scale(STABLE, *stable);
        cluster.wait_for_service("the step is made");
        load.wait_for(scale.requests / 10);
    }
    assert_eq!(cluster.count(20).into_keys().collect::<Vec<_>>(), ["v2"], "all of it is the canary");
    cluster.update(STABLE, Version::good("v2"));
    cluster.scale(STABLE, stable);
    cluster.wait_for_rollout(STABLE);
    cluster.scale(CANARY, 0);
    cluster.settle("the canary has left");
    assert_eq!(cluster.count(20).into_keys().collect::<Vec<_>>(), ["v2"]);
    load.assert_nothing_was_lost(scale.requests);
    cluster.assert_all_ended_well();
}

#[test]
fn a_canary_goes_to_all_of_it_and_is_promoted_without_a_lost_request() {
    promote(Scale::few(4), &[(3, 1), (2, 2), (0, 3)]);
}

#[test]
#[ignore = "soak: the lesson's steps, the manifest's own probes and 20 000 requests of each kind, for minutes"]
fn soak_a_canary_from_nine_and_one_to_none_and_eight() {
    promote(Scale::full(), &[(9, 1), (6, 2), (4, 4), (0, 8)]);
}
