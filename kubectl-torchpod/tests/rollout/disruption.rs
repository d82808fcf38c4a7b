//! Evictions: a budget keeps the pods that are needed, and a node is emptied without anybody noticing.

use loopback::{Cluster, Evicted, Load, Rendered, Scale};

const NAME: &str = "ml-model";

fn drain(scale: Scale) {
    let cluster = Cluster::with(&Rendered::read("strategy-recreate"), scale);
    let on_first = |node: usize| {
        cluster.look(|state| state.pods.iter().filter(|pod| pod.node == Some(node) && pod.stays()).count())
    };
    assert_eq!([0, 1].map(on_first), [2, 1], "three pods, spread over two nodes");
    let load = Load::on(&cluster);
    load.wait_for(scale.requests / 4);
    cluster.drain(0);
    cluster.settle("others have come in their place");
    assert_eq!([0, 1].map(on_first), [0, 3]);
    load.assert_nothing_was_lost(scale.requests);
    let least = cluster.deployment(NAME, |deployment| deployment.watched.least);
    assert_eq!(least, 2, "one was missing at a time");
    cluster.assert_all_ended_well();
}

#[test]
fn an_eviction_that_would_break_the_budget_is_refused_until_another_pod_is_ready() {
    let cluster = Cluster::with(&Rendered::read("strategy-recreate"), Scale::few(3));
    assert_eq!(cluster.evict(0), Ok(()));
    assert_eq!(cluster.evict(1), Err(Evicted { budget: "ml-model-pdb".to_owned(), least: 2, healthy: 2 }));
    assert!(cluster.look(|state| state.pods[1].stays()));
    cluster.wait_for_rollout(NAME);
    assert_eq!(cluster.evict(1), Ok(()));
}

#[test]
fn a_node_is_drained_of_a_set_of_three_without_a_failed_request() {
    drain(Scale::few(3));
}

#[test]
#[ignore = "soak: the manifest's own probes and 20 000 requests of each kind, for minutes"]
fn soak_a_drained_node() {
    drain(Scale::full());
}
