//! A good version: promoted, and nobody notices.

use loopback::{Load, Scale};

use crate::lab::{CANARY, LENIENT, Lab, NEW, OLD, STABLE, canary};

#[test]
fn a_good_canary_is_promoted_without_a_lost_request_and_can_still_be_rolled_back() {
    let lab = Lab::canary(2);
    let load = Load::on(&lab.cluster);
    lab.run(&["rollback", "ml-model"]).assert_code(2).assert_said("no canary was ever run");
    let dry = lab.run(&canary(NEW, &["--dry-run"]));
    dry.assert_code(0).assert_said("PATCH /apis/apps/v1/namespaces/default/deployments/ml-model-canary");
    let by_service = lab.run(&["canary", "ml-model-service", "--image", NEW, "--dry-run"]);
    by_service.assert_code(0).assert_said("ml-model-canary gets torchpod:0.2.0");
    assert_eq!(lab.sizes(), (2, 1), "nothing was changed");

    let ran = lab.try_canary(NEW, &LENIENT);
    ran.assert_code(0).assert_said("gate at 25 %: passed").assert_said("gate at 100 %: passed");
    ran.assert_said("promoted: torchpod:0.2.0 is stable");
    lab.assert_all_stable(NEW, 3);
    let status = lab.status();
    assert_eq!(status["canary"]["phase"], "promoted");
    assert_eq!(status["services"][0]["endpoints"][STABLE], 3);
    assert!(status["services"][0]["endpoints"][CANARY].is_null() && status["holder"].is_null());

    lab.try_canary(NEW, &LENIENT).assert_code(0).assert_said("promoted");
    assert_eq!(lab.cluster.count(20).into_keys().collect::<Vec<_>>(), ["v2"]);

    lab.run(&["rollback", "ml-model", "--reason", "right numbers, wrong labels"]).assert_code(0);
    lab.assert_all_stable(OLD, 3);
    assert_eq!(lab.status()["canary"]["reason"], "right numbers, wrong labels");
    lab.run(&["rollback", "ml-model"]).assert_code(2).assert_said("was taken back already");
    lab.assert_nothing_was_lost(load, 500);
}

#[test]
#[ignore = "soak: the lesson's nine and one, the manifest's own probes and 50 000 requests, for minutes"]
fn soak_a_good_canary_from_nine_and_one_loses_none_of_fifty_thousand_requests() {
    let lab = Lab::of("strategy-canary", Scale::full());
    let load = Load::on(&lab.cluster);
    lab.run(&["canary", "ml-model", "--image", NEW, "--gate", "1m"]).assert_code(0);
    lab.assert_all_stable(NEW, 10);
    lab.assert_nothing_was_lost(load, 25_000);
}
