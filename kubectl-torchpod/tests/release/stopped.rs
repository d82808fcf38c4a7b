//! Runs that are ended, disturbed, or met by others: what is in the cluster is enough to go on.

use std::time::Duration;

use loopback::{Fault, Load};

use crate::lab::{LENIENT, Lab, NEW, OLD, canary, with_gate};

/// Ends a run at each of these moments and starts the next, then lets one go to its end. Where a canary came to its end
/// before, the next one goes the other way.
fn ended_at(lab: &Lab, moments: &[Duration]) {
    let (stable, canary) = lab.sizes();
    for moment in moments {
        let image = wanted(lab);
        let held = lab.held();
        let mut run = lab.start(&canary_of(&image));
        // A run that was killed still has the Lease for a while: a moment counts from when this one has it.
        while lab.held() == held && run.child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(*moment);
        let _ = run.child.kill();
        println!("{image}, ended after {moment:?}:\n{}", run.end());
    }
    let image = wanted(lab);
    lab.run(&canary_of(&image)).assert_code(0);
    lab.assert_all_stable(&image, stable + canary);
}

/// What is being tried, or else what stable has not got.
fn wanted(lab: &Lab) -> String {
    let canary = &lab.status()["canary"];
    match canary["phase"].as_str() {
        Some("stepping" | "promoting") => canary["new"].as_str().unwrap().to_owned(),
        Some("promoted") if canary["new"] == NEW => OLD.to_owned(),
        None | Some("promoted") => NEW.to_owned(),
        other => panic!("a good version is never taken back: {other:?}"),
    }
}

fn canary_of(image: &str) -> Vec<&str> {
    canary(image, &LENIENT)
}

#[test]
fn a_run_that_was_killed_is_gone_on_with_by_the_same_command() {
    let lab = Lab::canary(1);
    let load = Load::on(&lab.cluster);
    let mut chance = fastrand::Rng::with_seed(8);
    let moments: Vec<_> = (0..3).map(|_| Duration::from_millis(chance.u64(0..8_000))).collect();
    ended_at(&lab, &moments);
    lab.assert_nothing_was_lost(load, 500);
}

#[test]
#[ignore = "soak: thirty ends at random instants, for a quarter of an hour"]
fn soak_a_run_that_is_killed_at_thirty_instants_ends_as_an_undisturbed_one() {
    let lab = Lab::canary(3);
    let load = Load::on(&lab.cluster);
    let mut chance = fastrand::Rng::with_seed(30);
    let moments: Vec<_> = (0..30).map(|_| Duration::from_millis(chance.u64(0..25_000))).collect();
    ended_at(&lab, &moments);
    lab.assert_nothing_was_lost(load, 20_000);
}

#[test]
fn ctrl_c_says_how_to_go_on_and_the_next_run_does_at_once() {
    let lab = Lab::canary(1);
    let load = Load::on(&lab.cluster);
    let mut run = lab.start(&with_gate("1h", NEW, &[]));
    run.wait_for("gate at 25 %");
    lab.run(&canary(NEW, &LENIENT)).assert_code(2).assert_said("is at it already, and alive");
    let pid = rustix::process::Pid::from_child(&run.child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    run.end().assert_code(130).assert_said("the same command goes on").assert_said("rollback");
    lab.run(&canary("torchpod:0.3.0", &[])).assert_code(2).assert_said("go on with --image torchpod:0.2.0");
    lab.run(&canary(NEW, &LENIENT)).assert_code(0);
    lab.assert_nothing_was_lost(load, 300);
}

#[test]
fn rollback_ends_a_run_that_is_under_way() {
    let lab = Lab::canary(1);
    let load = Load::on(&lab.cluster);
    let mut run = lab.start(&with_gate("1h", NEW, &[]));
    run.wait_for("gate at 25 %");
    lab.run(&["rollback", "ml-model"]).assert_code(0).assert_said("taken back: torchpod:0.1.0 is stable again");
    run.end().assert_code(1).assert_said("taken back: torchpod:0.2.0: asked for by rollback");
    lab.assert_all_stable(OLD, 2);
    lab.assert_nothing_was_lost(load, 300);
}

#[test]
fn an_api_server_that_is_gone_for_a_while_and_conflicts_change_nothing_of_the_end() {
    let lab = Lab::canary(1);
    let load = Load::on(&lab.cluster);
    lab.api.fault(Fault::Conflicts(3));
    let mut run = lab.start(&canary(NEW, &LENIENT));
    run.wait_for("gate at 25 %");
    lab.api.fault(Fault::Unreachable(Duration::from_secs(6)));
    run.wait_for("trying again");
    run.end().assert_code(0).assert_said("promoted");
    lab.assert_all_stable(NEW, 2);
    let conflicts = lab.api.asked().iter().filter(|asked| asked.status == 409).count();
    assert!(conflicts > 2, "{conflicts}");
    lab.assert_nothing_was_lost(load, 300);
}

#[test]
#[ignore = "soak: an API server that is gone for 20 s, twice, and conflicts at every third write, for minutes"]
fn soak_an_api_server_that_is_gone_for_twenty_seconds_leaves_nothing_half_done() {
    let lab = Lab::canary(3);
    let load = Load::on(&lab.cluster);
    lab.api.fault(Fault::Conflicts(3));
    let mut run = lab.start(&canary(NEW, &LENIENT));
    for moment in ["ml-model-canary 1 → 2", "ml-model-stable 0 → 1"] {
        run.wait_for(moment);
        lab.api.fault(Fault::Unreachable(Duration::from_secs(20)));
    }
    run.end().assert_code(0).assert_said("promoted");
    lab.assert_all_stable(NEW, 4);
    lab.assert_nothing_was_lost(load, 20_000);
}

#[test]
fn an_api_server_that_stays_away_ends_it_half_way_and_it_says_where_and_how_to_go_on() {
    let lab = Lab::canary(1);
    let load = Load::on(&lab.cluster);
    let mut run = lab.start(&canary(NEW, &[&LENIENT[..], &["--patience", "2s"]].concat()));
    run.wait_for("gate at 25 %");
    lab.api.fault(Fault::Unreachable(Duration::from_mins(10)));
    let ran = run.end();
    ran.assert_code(3)
        .assert_said("the API server has not answered for")
        .assert_said("it stands at 25 %: ml-model-stable 1/1");
    ran.assert_said("the same command goes on");
    lab.run(&canary(NEW, &["--patience", "1s"])).assert_code(2).assert_said("nothing was changed");
    lab.api.heal();
    lab.run(&canary(NEW, &LENIENT)).assert_code(0);
    lab.assert_nothing_was_lost(load, 300);
}
