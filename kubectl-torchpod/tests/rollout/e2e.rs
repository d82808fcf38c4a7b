//! `make e2e`, on the cluster on loopback: what it says of a cluster that keeps its promises, and of one that does not.

use std::path::Path;
use std::process::{Command, Output};

use loopback::{Api, Cluster, Scale, Version};

/// Visits some stops. Returns how it ended, and what it said.
fn tour(cluster: &Cluster, stops: &str, image: &str) -> (Option<i32>, String) {
    let api = Api::of(cluster);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member of the workspace");
    let kubectl = root.join(".venvs/manifests/bin/kubectl");
    assert!(kubectl.exists(), "kubectl is not installed: `make test-manifests` gets it");
    let mut tour = Command::new("python3");
    tour.args(["-B", "tests/e2e/tour.py"])
        .current_dir(root)
        .env("KUBECONFIG", api.kubeconfig())
        .env("KUBECTL", kubectl);
    tour.env("PLUGIN", env!("CARGO_BIN_EXE_kubectl-torchpod")).env("IMAGE", image).env("STOPS", stops);
    let Output { status, stdout, stderr } = tour.env("DRAIN_NODE", "node-1").env("REQUESTS", "200").output().unwrap();
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    println!("{said}");
    (status.code(), said)
}

#[test]
fn a_tour_of_a_cluster_that_keeps_its_promises_passes() {
    let (code, said) =
        tour(&Cluster::empty(Scale::few(3)), "recreate,hands-on,budget,drain,plugin-canary,plugin-cutover,flagger", "");
    assert_eq!(code, Some(0));
    for stop in ["recreate", "hands-on", "budget", "drain", "plugin-cutover"] {
        assert!(said.contains(&format!("{stop}: passed")), "{stop}");
    }
    assert!(said.contains("plugin-canary: NOT VISITED: IMAGE_NEW names no version to promote"));
    assert!(said.contains("flagger: NOT VISITED: Flagger is not installed"), "nothing is skipped in silence");
}

#[test]
fn a_request_that_is_not_answered_fails_the_tour() {
    let cluster = Cluster::empty(Scale::few(3));
    let arguments = ["--chaos", "request-errors=5%"].map(str::to_owned).to_vec();
    cluster.register("torchpod:bad", Version { arguments, ..Version::good("bad") });
    let (code, said) = tour(&cluster, "drain", "torchpod:bad");
    assert_eq!(code, Some(1));
    assert!(said.contains("drain: FAILED: requests were lost"));
}

#[test]
fn a_stop_that_is_not_there_is_named() {
    let (code, said) = tour(&Cluster::empty(Scale::few(3)), "canary,canaries", "");
    assert_eq!(code, Some(2));
    assert!(said.contains("STOPS names canaries; there are rolling,"));
}
