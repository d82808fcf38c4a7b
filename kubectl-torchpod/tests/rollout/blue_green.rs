//! Blue-green: two complete environments, and a Service that goes from one to the other and back.

use loopback::{Cluster, Load, Rendered, Scale};

const BLUE: &str = "ml-model-blue";
const GREEN: &str = "ml-model-green";

/// Points the Service to one of the two, and waits until the rules say so.
fn cut_over(cluster: &Cluster, to: &str) {
    cluster.select("version", to);
    cluster.wait_for_service("the rules have changed");
}

fn cut_over_and_back(scale: Scale) {
    let cluster = Cluster::with_new(&Rendered::read("strategy-blue-green"), GREEN, scale);
    let load = Load::on(&cluster);
    let answers = || cluster.count(30).into_keys().collect::<Vec<_>>();
    assert_eq!(answers(), ["v1"], "nobody has green yet");
    for (to, answer) in [("green", "v2"), ("blue", "v1"), ("green", "v2")] {
        cut_over(&cluster, to);
        assert_eq!(answers(), [answer]);
        load.wait_for(scale.requests / 4);
    }
    // What `kubectl delete deployment` does to its pods. Clients that kept their connections to blue leave it now.
    cluster.scale(BLUE, 0);
    cluster.settle("blue is gone");
    assert_eq!(answers(), ["v2"]);
    load.assert_nothing_was_lost(scale.requests);
    cluster.assert_promise_was_kept(GREEN);
    cluster.assert_all_ended_well();
}

#[test]
fn a_cutover_to_green_and_back_loses_no_request_and_neither_does_the_end_of_blue() {
    cut_over_and_back(Scale::few(3));
}

#[test]
#[ignore = "soak: the manifest's own probes and 20 000 requests of each kind, for minutes"]
fn soak_a_cutover_and_back() {
    cut_over_and_back(Scale::full());
}
