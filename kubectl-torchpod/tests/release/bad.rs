//! Bad versions: each is found, and taken back, with stable up before the canary leaves.

use std::time::Duration;

use loopback::{Load, Version};

use crate::lab::{CANARY, Lab, OLD, Ran};

/// Tries it under load, and holds that it is back as it was; gives what was said, and how much was lost.
fn taken_back(lab: &Lab, image: &str) -> (Ran, f64) {
    let load = Load::on(&lab.cluster);
    let ran = lab.try_canary(image, &[]);
    lab.assert_all_stable(OLD, 4);
    let tally = load.stop();
    ran.assert_code(1).assert_said(&format!("taken back: {image}: "));
    #[allow(clippy::cast_precision_loss)] // A test sends few.
    let lost = tally.lost.len() as f64 / (2 * tally.least_sent()) as f64;
    (ran, lost)
}

#[test]
fn a_version_that_does_not_come_up_is_taken_back_and_costs_nobody_a_request() {
    let lab = Lab::canary(3);
    lab.cluster.patch_deadline(CANARY, Duration::from_secs(4));
    let empty = tempfile::tempdir().unwrap();
    lab.cluster.register("torchpod:crash", Version::crashing("crash", empty.path().to_owned()));
    lab.cluster.register("torchpod:unready", Version::never_ready("unready"));
    for (image, reason) in [
        ("torchpod:crash", "CrashLoopBackOff"),
        ("torchpod:nowhere", "ImagePullBackOff"),
        ("torchpod:unready", "ml-model-canary: 0 of 1 pods were ready after"),
    ] {
        let (ran, lost) = taken_back(&lab, image);
        ran.assert_said(reason);
        assert!(lost == 0.0, "{image}: {lost}");
        assert_eq!(lab.status()["canary"]["phase"], "taken-back");
    }
}

#[test]
fn a_version_that_answers_500_to_a_twentieth_is_taken_back_at_the_cost_of_its_share() {
    let lab = Lab::canary(3);
    lab.register("torchpod:errors", "request-errors=5%");
    let (ran, lost) = taken_back(&lab, "torchpod:errors");
    ran.assert_said("failed");
    assert!(lost < 0.03, "a twentieth of a quarter, and some chance: {lost}");
}

#[test]
fn a_version_that_is_slower_is_taken_back() {
    let lab = Lab::canary(3);
    lab.register("torchpod:slow", "batch-delay=60ms");
    let (ran, _) = taken_back(&lab, "torchpod:slow");
    ran.assert_said("took longer than");
}

#[test]
#[ignore = "soak: every kind of bad version with the lesson's steps and gates of half a minute, for a quarter of an hour"]
fn soak_every_kind_of_bad_version_is_taken_back_at_most_at_the_cost_of_its_share() {
    let lab = Lab::canary(9);
    for (kind, chaos) in
        [("errors", "request-errors=5%"), ("slower", "batch-delay=15ms"), ("crowd", "crowd-delay=60ms")]
    {
        let image = format!("torchpod:{kind}");
        lab.register(&image, chaos);
        let load = Load::on(&lab.cluster);
        let ran = lab.run(&["canary", "ml-model", "--image", &image, "--gate", "30s", "--timeout", "10m"]);
        lab.assert_all_stable(OLD, 10);
        let tally = load.stop();
        ran.assert_code(1);
        // Of what the canary gets, a twentieth fails.
        assert!(tally.lost.len() < 2 * tally.least_sent() / 20, "{kind}: {}", tally.lost.len());
    }
}
