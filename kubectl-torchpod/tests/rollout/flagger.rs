//! What Flagger does with `k8s/strategies/canary-flagger`, by its documentation: a primary that serves, a canary that is
//! scaled up for each new version, weights in steps, and at the end the primary takes the version. Flagger itself needs a
//! cluster; the steps and the numbers are those of our Canary.

use loopback::{Cluster, Load, Rendered, Scale, Version};
use serde_json::{Value, json};

const CANARY: &str = "ml-model";
const PRIMARY: &str = "ml-model-primary";

/// A cluster in which Flagger has seen the Canary, and that resource.
fn initialised(scale: Scale) -> (Cluster, Value) {
    let objects = Rendered::read("strategy-canary-flagger").objects();
    let named = |kind: &str| objects.iter().find(|one| one["kind"] == kind && one["metadata"]["name"] == CANARY);
    let deployment = named("Deployment").expect("Flagger's target is there").clone();
    let mut primary = deployment.clone();
    primary["metadata"]["name"] = json!(PRIMARY);
    for labels in ["/spec/selector/matchLabels", "/spec/template/metadata/labels"] {
        primary.pointer_mut(labels).expect("they are there")["app"] = json!(PRIMARY);
    }
    let cluster = Cluster::empty(scale);
    for app in [PRIMARY, CANARY] {
        let port = json!({"name": "http", "port": 8080, "targetPort": "http"});
        let spec = json!({"selector": {"app": app}, "ports": [port]});
        cluster.create(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": app}, "spec": spec}));
    }
    cluster.create(primary);
    cluster.create(deployment);
    cluster.scale(CANARY, 0);
    cluster.settle("the primary is available");
    cluster.share(&[(PRIMARY, 100)]);
    cluster.watch_anew();
    (cluster, named("Canary").expect("it is there").clone())
}

fn weights(canary: &Value) -> impl Iterator<Item = u32> {
    let number =
        |key: &str| u32::try_from(canary["spec"]["analysis"][key].as_u64().expect("a number")).expect("a share");
    let (step, most) = (number("stepWeight"), number("maxWeight"));
    (1..=most / step).map(move |steps| steps * step)
}

fn shift(scale: Scale) {
    let (cluster, canary) = initialised(scale);
    let load = Load::on(&cluster);
    let replicas = cluster.deployment(PRIMARY, |deployment| deployment.spec().replicas);
    cluster.update(CANARY, Version::good("v2"));
    cluster.scale(CANARY, replicas);
    cluster.wait_for_rollout(CANARY);
    cluster.wait_for_service("the canary has endpoints");
    for weight in weights(&canary) {
        cluster.share(&[(PRIMARY, 100 - weight), (CANARY, weight)]);
        load.wait_for(scale.requests / 10);
    }
    assert_eq!(cluster.count(60).into_keys().collect::<Vec<_>>(), ["v1", "v2"], "it ends with a half each");
    cluster.update(PRIMARY, Version::good("v2"));
    cluster.wait_for_rollout(PRIMARY);
    cluster.share(&[(PRIMARY, 100)]);
    cluster.scale(CANARY, 0);
    cluster.settle("the canary has left");
    assert_eq!(cluster.count(20).into_keys().collect::<Vec<_>>(), ["v2"]);
    load.assert_nothing_was_lost(scale.requests);
    cluster.assert_promise_was_kept(PRIMARY);
    cluster.assert_all_ended_well();
}

#[test]
fn weights_in_steps_and_a_promotion_lose_no_request() {
    shift(Scale::few(3));
}

#[test]
fn a_canary_that_is_given_up_loses_no_request() {
    let scale = Scale::few(3);
    let (cluster, canary) = initialised(scale);
    let load = Load::on(&cluster);
    cluster.update(CANARY, Version::good("v2"));
    cluster.scale(CANARY, 1);
    cluster.wait_for_rollout(CANARY);
    cluster.wait_for_service("the canary has endpoints");
    let weight = weights(&canary).next().expect("there is a first step");
    cluster.share(&[(PRIMARY, 100 - weight), (CANARY, weight)]);
    load.wait_for(scale.requests / 2);
    cluster.share(&[(PRIMARY, 100)]);
    cluster.scale(CANARY, 0);
    cluster.settle("the canary has left");
    assert_eq!(cluster.count(20).into_keys().collect::<Vec<_>>(), ["v1"]);
    load.assert_nothing_was_lost(scale.requests);
    cluster.assert_all_ended_well();
}

#[test]
#[ignore = "soak: the manifest's own probes and 20 000 requests of each kind, for minutes"]
fn soak_weights_in_steps_and_a_promotion() {
    shift(Scale::full());
}
