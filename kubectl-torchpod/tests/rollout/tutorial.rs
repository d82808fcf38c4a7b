//! The hands-on: connections are split as the pods are.

use std::collections::BTreeMap;

use loopback::{Cluster, Rendered, Scale};

const STABLE: &str = "ml-model-stable";
const CANARY: &str = "ml-model-canary";

/// Of Pearson's statistic with one degree of freedom, the value that chance exceeds once in 100 times.
const CRITICAL: f64 = 6.635;

/// Whether as many connections as one may expect went to the canary, a share of all.
fn assert_split(counted: &BTreeMap<String, usize>, share: f64) {
    let count = |label: &str| f64::from(u32::try_from(counted.get(label).copied().unwrap_or(0)).expect("a count"));
    let (stable, canary) = (count("Model v1 (stable)"), count("Model v2 (canary)"));
    let all = stable + canary;
    println!("{stable} and {canary}");
    assert!(all >= 100.0 && counted.len() <= 2, "{counted:?}");
    if share >= 1.0 {
        assert!(stable == 0.0, "{counted:?}");
        return;
    }
    let part = |seen: f64, expected: f64| (seen - expected).powi(2) / expected;
    let statistic = part(stable, all * (1.0 - share)) + part(canary, all * share);
    assert!(statistic < CRITICAL, "{counted:?} is no split of {share}: {statistic}");
}

#[test]
fn a_hundred_connections_are_split_as_the_pods_are() {
    let cluster = Cluster::with(&Rendered::read("tutorial"), Scale::few(9));
    assert_split(&cluster.count(100), 0.1);
    cluster.scale(CANARY, 4);
    cluster.scale(STABLE, 6);
    cluster.wait_for_service("six and four");
    assert_split(&cluster.count(100), 0.4);
    cluster.scale(CANARY, 10);
    cluster.wait_for_rollout(CANARY);
    cluster.scale(STABLE, 0);
    cluster.wait_for_service("none and ten");
    assert_split(&cluster.count(100), 1.0);
}
