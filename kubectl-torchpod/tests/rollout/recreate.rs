//! Recreate: no two versions at once, and a gap that is measured.

use std::time::Duration;

use loopback::{Cluster, Load, Rendered, Scale, State, Version};

const NAME: &str = "ml-model";

fn recreate(scale: Scale) {
    let cluster = Cluster::with(&Rendered::read("strategy-recreate"), scale);
    let load = Load::on(&cluster);
    load.wait_for(scale.requests / 2);
    let first = cluster.look(|state| state.pods.len());
    cluster.update(NAME, Version::good("v2"));
    cluster.settle("the new version is there");
    // From the first old pod's SIGTERM, until when it serves, to the first rules that name a new one.
    let (from, to) = cluster.look(|state| (ends_from(state), state.route().opened_for(first)));
    load.wait_for(scale.requests / 2);
    let tally = load.stop();
    println!("nobody served from {from:?} to {to:?}");
    assert!(tally.least_sent() >= scale.requests && !tally.lost.is_empty());
    let outside = tally.lost.iter().filter(|lost| lost.failed < from || lost.sent > to).collect::<Vec<_>>();
    assert!(outside.is_empty(), "{outside:#?}\n{}", cluster.look(State::journal));
    let last_exit = cluster.look(|state| state.pods[..first].iter().map(|pod| pod.exits[0].at).max());
    let first_made = cluster.look(|state| state.pods[first].created);
    assert!(last_exit.is_some_and(|exit| exit <= first_made), "no two versions run at once");
    cluster.assert_promise_was_kept(NAME);
    cluster.assert_all_ended_well();
    assert_eq!(cluster.count(20).into_keys().collect::<Vec<_>>(), ["v2"]);
}

fn ends_from(state: &State) -> Duration {
    let told = state.pods.iter().flat_map(|pod| pod.exits.iter().filter_map(|exit| exit.told));
    told.min().expect("the old pods were told to end")
}

#[test]
fn a_recreated_deployment_fails_in_its_gap_and_never_else() {
    recreate(Scale::few(3));
}

#[test]
#[ignore = "soak: the manifest's own probes and 20 000 requests of each kind, for minutes"]
fn soak_a_recreated_deployment() {
    recreate(Scale::full());
}
