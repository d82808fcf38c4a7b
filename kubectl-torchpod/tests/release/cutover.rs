//! Blue and green: cut over, stay, go back.

use std::time::Duration;

use loopback::{Load, Scale};

use crate::lab::{Lab, NEW};

fn lab() -> Lab {
    Lab::of("strategy-blue-green", Scale::few(2))
}

#[test]
fn a_cutover_goes_to_whoever_is_complete_and_answers_and_back_by_one_patch() {
    let lab = lab();
    lab.cluster.update("ml-model-green", loopback::Version::good("v2"));
    lab.cluster.wait_for_rollout("ml-model-green");
    let load = Load::on(&lab.cluster);
    let dry = lab.run(&["cutover", "ml-model", "--to", "green", "--dry-run"]);
    dry.assert_code(0).assert_said("PATCH /api/v1/namespaces/default/services/ml-model-service");

    let ran = lab.run(&["cutover", "ml-model", "--to", "green"]);
    ran.assert_code(0).assert_said("2 pods: ready, computes digits");
    ran.assert_said("ml-model-service sends to ml-model-green (version=green); ml-model-blue keeps its 2 pods");
    lab.cluster.wait_for_service("the rules know it");
    assert_eq!(lab.cluster.count(20).into_keys().collect::<Vec<_>>(), ["v2"]);
    lab.run(&["cutover", "ml-model", "--to", "green"]).assert_code(0);

    lab.run(&["rollback", "ml-model"]).assert_code(0).assert_said("ml-model-service selects version=blue again");
    lab.cluster.wait_for_service("the rules know it");
    assert_eq!(lab.cluster.count(20).into_keys().collect::<Vec<_>>(), ["v1"]);
    lab.assert_nothing_was_lost(load, 300);
}

#[test]
fn the_old_one_is_retired_once_clients_that_keep_connections_have_left_it() {
    let lab = lab();
    let load = Load::on(&lab.cluster);
    let arguments = ["cutover", "ml-model", "--to", "green", "--retire-when-idle", "2s"];
    let mut run = lab.start(&arguments);
    run.wait_for("ml-model-service selects version=green");
    std::thread::sleep(Duration::from_secs(4));
    assert!(!run.said().contains("ml-model-blue: no request"), "kept connections are still on it: {}", run.said());
    let tally = load.stop();
    assert!(tally.lost.is_empty(), "{:?}", tally.lost);
    run.end().assert_code(0).assert_said("ml-model-blue: no request for 2s, 2 → 0");
    let ran = lab.run(&["rollback", "ml-model"]);
    ran.assert_code(2).assert_said("ml-model-blue has 0 of 0 pods ready: bring it up first");
}

#[test]
fn nobody_is_sent_to_a_version_that_is_not_complete_or_fails_its_smoke_request() {
    let lab = lab();
    lab.cluster.scale("ml-model-green", 1);
    lab.cluster.wait_for_rollout("ml-model-green");
    let cutover = ["cutover", "ml-model", "--to", "green"];
    lab.run(&cutover)
        .assert_code(2)
        .assert_said("ml-model-green has 1 pods, and ml-model-blue has 2: scale it up first");
    lab.register(NEW, "request-errors=100%");
    lab.cluster.update(
        "ml-model-green",
        loopback::Version {
            arguments: ["--chaos", "request-errors=100%"].map(str::to_owned).to_vec(),
            ..loopback::Version::good("v2")
        },
    );
    lab.cluster.scale("ml-model-green", 2);
    lab.cluster.wait_for_rollout("ml-model-green");
    lab.run(&cutover)
        .assert_code(2)
        .assert_said("does not answer as it should")
        .assert_said("/v2/models/digits/infer: 500");
    assert_eq!(lab.cluster.count(5).into_keys().collect::<Vec<_>>(), ["v1"]);
}
