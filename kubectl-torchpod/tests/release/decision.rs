//! The decision, row by row.

use kubectl_torchpod::release::canary::{Action, Gate, Seen, turn_back};
use kubectl_torchpod::release::record::Phase;
use kubectl_torchpod::release::rehearsal::{Part, rehearse};

use crate::world::{NEW, OLD, ago, at, before, change, decided, now, passed, plan, record, told, within};

fn with(mut seen: Seen, edit: impl FnOnce(&mut Seen)) -> Seen {
    edit(&mut seen);
    seen
}

#[test]
fn a_step_brings_the_canary_up_then_stable_down_and_then_is_watched() {
    let ready =
        |stable: i32, canary: i32, ready: i32| with(within(at(50), stable, canary), |seen| seen.canary.ready = ready);
    for (seen, expected) in [
        (within(at(50), 7, 3), "web-canary 3 → 5"),
        (ready(7, 5, 4), "web-stable 7 → 6"),
        (ready(6, 5, 4), "wait: 50 %: web-stable 6/6, web-canary 4/5"),
        (within(at(50), 6, 5), "web-stable 6 → 5"),
        (within(at(50), 5, 5), "watch 50 %"),
        // The last step has not got the room for all ten at once: three more than ten is what the surge allows.
        (within(at(100), 5, 5), "web-canary 5 → 8"),
        (within(at(100), 5, 8), "web-stable 5 → 2"),
        (within(at(100), 2, 8), "web-canary 8 → 10"),
        (within(at(100), 2, 10), "web-stable 2 → 0"),
        (within(at(100), 0, 10), "watch 100 %"),
    ] {
        assert_eq!(told(&decided(&seen)), expected);
    }
}

#[test]
fn a_gate_leads_on_or_back_or_waits_for_traffic() {
    let at_gate = |phase, sizes: (i32, i32), gate| with(within(phase, sizes.0, sizes.1), |seen| seen.gate = gate);
    let unclear = || Some(Gate::Unclear("80 more requests are needed".to_owned()));
    let failed = || Some(Gate::Failed("12 of 240 requests failed".to_owned()));
    let late = with(at_gate(at(10), (9, 1), unclear()), |seen| seen.canary.moved = Some(ago(3600)));
    for (seen, expected) in [
        (at_gate(at(10), (9, 1), Some(passed())), "on to 25 %: 7 + 3 pods"),
        (at_gate(at(25), (7, 3), Some(passed())), "on to 50 %: 5 + 5 pods"),
        (at_gate(at(100), (0, 10), Some(passed())), "every gate was passed: torchpod:2 becomes stable"),
        (at_gate(at(50), (5, 5), failed()), "goes back: 12 of 240 requests failed"),
        (at_gate(at(10), (9, 1), unclear()), "watch 10 %"),
        (late, "goes back: 80 more requests are needed within --timeout 15m"),
    ] {
        assert_eq!(told(&decided(&seen)), expected);
    }
}

#[test]
fn a_verdict_is_remembered_and_so_are_the_numbers_of_stable() {
    let gate = Some(Gate::Passed { said: "no worse".to_owned(), numbers: Some("{}".to_owned()) });
    let step = change(decided(&with(within(at(50), 5, 5), |seen| seen.gate = gate)));
    assert_eq!(step.annotations["torchpod.dev/verdict"].as_deref(), Some("no worse"));
    assert_eq!(step.annotations["torchpod.dev/stable-numbers"].as_deref(), Some("{}"));
}

#[test]
fn what_no_waiting_will_mend_turns_it_back_at_once() {
    let sick = |edit: fn(&mut Seen)| told(&decided(&with(within(at(25), 7, 3), edit)));
    let crash = sick(|seen| seen.canary.trouble = Some("pod a: CrashLoopBackOff".to_owned()));
    assert_eq!(crash, "goes back: pod a: CrashLoopBackOff");
    let late = sick(|seen| (seen.canary.ready, seen.canary.unready_since) = (1, Some(ago(700))));
    assert_eq!(late, "goes back: web-canary: 1 of 3 pods were ready after 11m 40s");
    let soon = sick(|seen| (seen.canary.ready, seen.canary.unready_since) = (1, Some(ago(500))));
    assert_eq!(soon, "wait: 25 %: web-stable 7/7, web-canary 1/3");
    let stable = sick(|seen| seen.stable.trouble = Some("pod b: CrashLoopBackOff".to_owned()));
    assert_eq!(stable, "watch 25 %", "the old version's own trouble is no fault of the new one");
}

#[test]
fn the_way_back_brings_stable_up_before_the_canary_leaves() {
    let back = |stable: i32, canary: i32| within(Phase::Returning, stable, canary);
    for (seen, expected) in [
        (back(5, 5), "web-stable 5 → 8"),
        (with(back(8, 5), |seen| seen.stable.ready = 5), "wait: way back: web-stable 5/8, web-canary 5/5"),
        (with(back(8, 5), |seen| seen.stable.ready = 7), "web-canary 5 → 3"),
        (back(8, 2), "web-stable 8 → 10"),
        (back(10, 2), "web-canary 2 → 0"),
        (back(10, 0), "web-stable runs torchpod:1 on all 10 pods again"),
        // Nobody would miss pods that do not serve.
        (with(back(7, 3), |seen| seen.canary.ready = 0), "web-stable 7 → 10"),
        (with(back(10, 3), |seen| (seen.stable.ready, seen.canary.ready) = (7, 0)), "web-canary 3 → 0"),
        // Stable has the new image already: it gets the old one back.
        (with(back(4, 10), |seen| seen.stable.image = NEW.to_owned()), "web-stable gets torchpod:1 back"),
    ] {
        assert_eq!(told(&decided(&seen)), expected);
    }
}

#[test]
fn the_end_is_stable_with_the_new_image_and_all_pods() {
    let stable = |size: i32, canary: i32| {
        with(within(Phase::Promoting, size, canary), |seen| seen.stable.image = NEW.to_owned())
    };
    let rolling = with(stable(5, 5), |seen| (seen.stable.is_settled, seen.stable.ready) = (false, 2));
    let broken = with(stable(3, 10), |seen| {
        (seen.stable.ready, seen.stable.trouble) = (0, Some("pod a: ImagePullBackOff".to_owned()));
    });
    for (seen, expected) in [
        (within(Phase::Promoting, 0, 10), "web-stable gets torchpod:2"),
        (rolling, "wait: promotion: web-stable 2/5, web-canary 5/5"),
        (stable(0, 10), "web-stable 0 → 3"),
        (stable(3, 10), "web-canary 10 → 7"),
        (stable(10, 1), "web-canary 1 → 0"),
        (stable(10, 0), "web-stable runs torchpod:2 on all 10 pods"),
        (broken, "goes back: web-stable does not take over: pod a: ImagePullBackOff"),
    ] {
        assert_eq!(told(&decided(&seen)), expected);
    }
}

#[test]
fn an_end_is_the_end_of_the_run_that_saw_it_and_the_same_command_later_finds_it_done() {
    let over = |phase, is_under_way, image: &str| {
        with(within(phase, 10, 0), |seen| {
            (seen.is_under_way, seen.stable.image) = (is_under_way, image.to_owned());
        })
    };
    for (seen, expected) in [
        (over(Phase::Promoted, true, NEW), "end: Promoted"),
        (over(Phase::Promoted, false, NEW), "end: Promoted"),
        (over(Phase::TakenBack, true, OLD), "end: TakenBack(\"\")"),
        (over(Phase::TakenBack, false, OLD), "web-canary gets torchpod:2, for 10 % of 10 pods"),
    ] {
        assert_eq!(told(&decided(&seen)), expected);
    }
}

#[test]
fn what_cannot_begin_or_go_on_says_what_to_do() {
    let refused = |seen: Seen| match decided(&seen) {
        Action::Refuse(why) => why,
        other => panic!("{other:?}"),
    };
    let begin = |edit: fn(&mut Seen)| refused(with(before(), edit));
    let go_on = |edit: fn(&mut Seen)| refused(with(within(at(25), 7, 3), edit));
    for (why, hint) in [
        (begin(|seen| seen.stable.image = NEW.to_owned()), "there is nothing to try"),
        (begin(|seen| seen.stable.ready = 8), "mend that first"),
        (begin(|seen| (seen.stable.size, seen.stable.ready) = (0, 0)), "mend that first"),
        (begin(|seen| (seen.canary.size, seen.canary.ready) = (4, 4)), "scale it to 1 or fewer first"),
        (
            go_on(|seen| seen.canary.record.as_mut().unwrap().new = "torchpod:3".to_owned()),
            "go on with --image torchpod:3",
        ),
        (
            go_on(|seen| seen.canary.record.as_mut().unwrap().shares = "5,25".parse().unwrap()),
            "go on with --steps 5,25",
        ),
        (go_on(|seen| seen.canary.image = "torchpod:3".to_owned()), "set it back and run the same command again"),
        (go_on(|seen| seen.stable.image = "torchpod:0".to_owned()), "set it back and run the same command again"),
    ] {
        assert!(why.contains(hint), "{why}");
    }
}

#[test]
fn a_patch_names_the_version_that_it_was_decided_on_and_what_was_the_cause() {
    let begun = change(decided(&before()));
    let body = begun.body(Some("7"), now());
    assert_eq!(body["metadata"]["resourceVersion"], "7");
    assert_eq!(body["metadata"]["annotations"]["kubernetes.io/change-cause"], plan().cause);
    assert_eq!(body["metadata"]["annotations"]["torchpod.dev/pods-before"], "9+1");
    assert_eq!(body["metadata"]["annotations"]["torchpod.dev/moved-at"], "2026-03-01T12:00:00Z");
    assert_eq!(body["spec"]["replicas"], 1);
    assert_eq!(body["spec"]["template"]["spec"]["containers"][0]["image"], NEW);
    let back = turn_back(&record(at(25)), "asked for".to_owned()).body(None, now());
    assert_eq!(back["metadata"]["annotations"]["torchpod.dev/phase"], "returning");
    assert!(back["metadata"]["annotations"]["torchpod.dev/step"].is_null() && back.get("spec").is_none());
}

#[test]
fn a_rehearsal_has_every_change_in_order_and_a_gate_for_each_step() {
    let parts = rehearse(before(), &plan(), now()).unwrap();
    let told: Vec<_> = parts
        .iter()
        .map(|part| match part {
            Part::Change(change) => change.what.clone(),
            Part::Gate(step) => format!("gate {} + {}", step.sizes.stable, step.sizes.canary),
            Part::End(end) => format!("{end:?}"),
        })
        .collect();
    assert_eq!(
        told,
        [
            "web-canary gets torchpod:2, for 10 % of 10 pods",
            "gate 9 + 1",
            "on to 25 %: 7 + 3 pods",
            "web-canary 1 → 3",
            "web-stable 9 → 7",
            "gate 7 + 3",
            "on to 50 %: 5 + 5 pods",
            "web-canary 3 → 5",
            "web-stable 7 → 5",
            "gate 5 + 5",
            "on to 100 %: 0 + 10 pods",
            "web-canary 5 → 8",
            "web-stable 5 → 2",
            "web-canary 8 → 10",
            "web-stable 2 → 0",
            "gate 0 + 10",
            "every gate was passed: torchpod:2 becomes stable",
            "web-stable gets torchpod:2",
            "web-stable 0 → 3",
            "web-canary 10 → 7",
            "web-stable 3 → 6",
            "web-canary 7 → 4",
            "web-stable 6 → 9",
            "web-canary 4 → 1",
            "web-stable 9 → 10",
            "web-canary 1 → 0",
            "web-stable runs torchpod:2 on all 10 pods",
            "Promoted",
        ]
    );
}
