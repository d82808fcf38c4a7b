//! What decides, and in which words.

use kubectl_torchpod::judge::{
    Against, Counts, Decision, ENDLESS, Judge, Kind, Limits, Reading, Seen, Tally, Verdict, Window,
};
use proptest::prelude::{Strategy, prop, prop_assert, prop_assert_eq, proptest};

const ROUNDS: usize = 24;

/// What a pod does in one round.
#[derive(Clone, Debug, Default)]
struct Slice {
    ok: u64,
    failed: u64,
    refused: u64,
    rejected: u64,
    /// Of those that are ok.
    slow: u64,
}

fn tally(model: &str, pods: &[Vec<Slice>]) -> Tally {
    tally_of(&[(model, pods)])
}

fn tally_of(models: &[(&str, &[Vec<Slice>])]) -> Tally {
    let mut window = Window::default();
    let pods = models[0].1.len();
    let rounds = models[0].1.first().map_or(0, Vec::len);
    for round in 0..=rounds {
        let seen = |pod: usize| {
            let series =
                models.iter().map(|(model, pods)| (((*model).to_owned(), "1".to_owned()), counts(&pods[pod][..round])));
            Seen { uid: pod.to_string(), name: format!("pod-{pod}"), page: Ok(series.collect()) }
        };
        window.round((0..pods).map(seen));
    }
    window.tally()
}

fn counts(slices: &[Slice]) -> Counts {
    let sum = |part: fn(&Slice) -> u64| slices.iter().map(part).sum::<u64>();
    let timed = sum(|slice| slice.ok + slice.failed + slice.refused + slice.rejected);
    let fast = timed - sum(|slice| slice.slow);
    Counts {
        ok: sum(|slice| slice.ok),
        client_error: sum(|slice| slice.rejected),
        refused: sum(|slice| slice.refused),
        deadline: 0,
        server_error: sum(|slice| slice.failed),
        within: [(10_000_000, fast), (25_000_000, fast), (50_000_000, timed), (ENDLESS, timed)].into(),
    }
}

fn pods(count: usize, slice: &Slice) -> Vec<Vec<Slice>> {
    vec![vec![slice.clone(); ROUNDS]; count]
}

fn judged(stable: &Tally, canary: &Tally) -> Verdict {
    Judge { limits: Limits::default() }.judge(1, Against::Now(stable), canary)
}

fn ok(ok: u64) -> Slice {
    Slice { ok, ..Slice::default() }
}

fn kinds(verdict: &Verdict) -> Vec<Kind> {
    verdict.reasons.iter().map(|reason| reason.kind).collect()
}

#[test]
fn each_kind_of_trouble_fails_alone_and_is_told_with_both_numbers() {
    let table = [
        (
            Slice { failed: 2, ..ok(18) },
            Kind::Failed,
            "canary: 48 of 480 requests failed (10.0 %), stable: 0 of 4320 (0 %)",
        ),
        (
            Slice { refused: 2, ..ok(18) },
            Kind::Unserved,
            "canary: 48 of 480 requests were refused or answered too late (10.0 %), stable: 0 of 4320 (0 %)",
        ),
        (
            Slice { rejected: 10, ..ok(10) },
            Kind::Rejected,
            "canary: 240 of 480 requests were rejected as bad input (50.0 %), stable: 0 of 4320 (0 %): it refuses what \
             stable takes, or a caller's bad requests reached it alone",
        ),
        (
            Slice { slow: 4, ..ok(20) },
            Kind::Latency,
            "canary: 96 of 480 requests took longer than 10 ms (20.0 %), stable: 0 of 4320 (0 %); the 99th percentile is \
             about 37 ms, stable's 10 ms",
        ),
    ];
    let stable = tally("m", &pods(9, &ok(20)));
    for (slice, kind, text) in table {
        let verdict = judged(&stable, &tally("m", &pods(1, &slice)));
        assert_eq!((&verdict.decision, kinds(&verdict)), (&Decision::Fail, vec![kind]), "{verdict}");
        assert_eq!(verdict.reasons[0].text, text);
    }
}

#[test]
fn what_happens_to_both_tracks_alike_is_no_fault_of_the_canary() {
    let rough = Slice { failed: 1, refused: 1, rejected: 5, slow: 2, ok: 20 };
    let verdict = judged(&tally("m", &pods(9, &rough)), &tally("m", &pods(1, &rough)));
    assert!(!verdict.is_fail(), "{verdict}");
}

#[test]
fn a_difference_within_the_limits_passes_however_sure_it_is() {
    let (one, two) = (Slice { failed: 1, ..ok(99_999) }, Slice { failed: 2, ..ok(99_998) });
    assert!(judged(&tally("m", &pods(9, &one)), &tally("m", &pods(1, &two))).is_pass());
    let none = Limits { error_increase: 0.0, ..Limits::default() };
    let (stable, canary) = (tally("m", &pods(9, &one)), tally("m", &pods(1, &two)));
    assert!(Judge { limits: none }.judge(1, Against::Now(&stable), &canary).is_fail());
}

#[test]
fn a_version_a_little_slower_passes_however_sure_it_is() {
    let (stable, canary) = (pods(9, &Slice { slow: 2, ..ok(100) }), pods(1, &Slice { slow: 6, ..ok(100) }));
    let (stable, canary) = (tally("m", &stable), tally("m", &canary));
    let verdict = judged(&stable, &canary);
    assert!(verdict.is_pass(), "{verdict}");
    let strict = Judge { limits: Limits { latency_ratio: 1.1, ..Limits::default() } };
    let verdict = strict.judge(1, Against::Now(&stable), &canary);
    assert_eq!((&verdict.decision, kinds(&verdict)), (&Decision::Fail, vec![Kind::Latency]), "{verdict}");
}

#[test]
fn a_difference_that_chance_makes_is_none_however_large_it_looks() {
    let mut few = pods(1, &ok(3));
    few[0][..3].fill(Slice { failed: 1, ..ok(2) });
    let mut some = pods(9, &ok(3));
    some[0][..5].fill(Slice { failed: 1, ..ok(2) });
    // 4 % beside 0.8 %, since three of eight fell to the one pod in ten.
    let verdict = judged(&tally("m", &some), &tally("m", &few));
    assert!(matches!(verdict.decision, Decision::TooLittle { .. }), "{verdict}");
}

#[test]
fn what_breaks_out_on_any_pod_now_and_then_is_no_fault_of_the_canary() {
    let outbreak = || Slice { failed: 20, ..Slice::default() };
    let mut stable = pods(9, &ok(20));
    for (round, pod) in stable.iter_mut().enumerate() {
        pod[2 * round] = outbreak();
    }
    let mut canary = pods(1, &ok(20));
    canary[0][10..13].fill(outbreak());
    // 12.5 % beside 4.2 %, but 3 outbreaks of 12.
    let verdict = judged(&tally("m", &stable), &tally("m", &canary));
    assert!(!verdict.is_fail(), "{verdict}");
    // As many, one by one, are no outbreaks.
    let even = pods(9, &ok(20)).into_iter().map(|mut pod| {
        pod[..20].fill(Slice { failed: 1, ..ok(19) });
        pod
    });
    let verdict = judged(&tally("m", &even.collect::<Vec<_>>()), &tally("m", &canary));
    assert!(verdict.is_fail(), "{verdict}");
}

#[test]
fn what_varied_with_time_before_may_have_varied_again() {
    let mut stable = pods(5, &ok(20));
    for pod in &mut stable {
        pod[7..9].fill(Slice { failed: 6, ..ok(14) });
    }
    let mut canary = pods(1, &ok(20));
    canary[0][..18].fill(Slice { failed: 2, ..ok(18) });
    let (stable, canary) = (tally("m", &stable), tally("m", &canary));
    let judge = Judge { limits: Limits::default() };
    assert!(judge.judge(1, Against::Now(&stable), &canary).is_fail(), "the canary had the same times");
    assert!(!judge.judge(1, Against::Before(&stable), &canary).is_fail());
}

#[test]
fn whoever_looks_often_must_see_more() {
    let stable = tally("m", &pods(9, &ok(20)));
    let mut canary = pods(1, &ok(20));
    canary[0][..5].fill(Slice { failed: 1, ..ok(19) });
    let canary = tally("m", &canary);
    let judge = Judge { limits: Limits::default() };
    let fails = |look| judge.judge(look, Against::Now(&stable), &canary).is_fail();
    assert_eq!((fails(1), fails(20)), (true, false));
    let single = Judge { limits: Limits { gates: 1, ..Limits::default() } };
    let many = Judge { limits: Limits { gates: 100, ..Limits::default() } };
    let fails = |judge: &Judge| judge.judge(3, Against::Now(&stable), &canary).is_fail();
    assert_eq!((fails(&single), fails(&many)), (true, false));
}

#[test]
fn one_stall_is_not_a_slow_version_and_no_refusal_to_serve() {
    let stable = tally("m", &pods(9, &ok(20)));
    for stalled in [Slice { slow: 20, ..ok(20) }, Slice { refused: 20, ..Slice::default() }] {
        let mut canary = pods(1, &ok(20));
        canary[0][3..5].fill(stalled);
        let verdict = judged(&stable, &tally("m", &canary));
        assert!(verdict.is_pass(), "{verdict}");
    }
    // An answer that failed has failed.
    let mut canary = pods(1, &ok(20));
    canary[0][3..5].fill(Slice { failed: 20, ..Slice::default() });
    assert!(judged(&stable, &tally("m", &canary)).is_fail());
}

#[test]
fn a_canary_whose_pod_is_gone_fails_and_a_pod_of_stable_that_is_gone_is_noted() {
    let (stable, canary) = (tally("m", &pods(9, &ok(20))), tally("m", &pods(1, &ok(20))));
    let mut window = Window::default();
    window.round([Seen { uid: "u".to_owned(), name: "pod-9".to_owned(), page: Ok(Reading::default()) }]);
    window.round([]);
    let faults = window.tally().faults;
    let verdict = judged(&stable, &Tally { faults: faults.clone(), ..canary.clone() });
    assert_eq!(
        (&verdict.decision, verdict.reasons[0].text.as_str()),
        (&Decision::Fail, "canary: pod pod-9 has vanished")
    );
    let verdict = judged(&Tally { faults, ..stable }, &canary);
    assert!(verdict.is_pass(), "{verdict}");
    assert_eq!(verdict.notes, ["stable: pod pod-9 has vanished"]);
}

#[test]
fn too_little_is_told_with_what_is_missing() {
    let stable = tally("m", &pods(9, &ok(2)));
    let verdict = judged(&stable, &tally("m", &pods(1, &ok(2))));
    let Decision::TooLittle { more: Some(more) } = verdict.decision else { panic!("{verdict}") };
    let text = format!(
        "canary: 48 requests are too few to be sure of noticing if 5.0 % more of them failed or were slow, {more} more are \
         needed"
    );
    assert_eq!(verdict.reasons[0].text, text);
    // With as many more, and as many of stable's, it is enough.
    let times = (48 + more).div_ceil(48) + 1;
    let (stable, canary) = (tally("m", &pods(9, &ok(2 * times))), tally("m", &pods(1, &ok(2 * times))));
    assert!(judged(&stable, &canary).is_pass());

    let idle = judged(&stable, &tally("m", &pods(1, &ok(0))));
    assert_eq!(idle.reasons[0].text, "canary: answered no requests: does the Service select its pods?");
    let alone = judged(&Tally::default(), &canary);
    assert_eq!(alone.reasons[0].text, "stable: 0 requests are too few to compare with");
    assert_eq!(alone.decision, Decision::TooLittle { more: None });
}

#[test]
fn a_few_rounds_do_not_pass_however_many_requests_there_are() {
    let short = |pods: usize| vec![vec![ok(5000); 3]; pods];
    let verdict = judged(&tally("m", &short(9)), &tally("m", &short(1)));
    assert_eq!(verdict.decision, Decision::TooLittle { more: Some(0) }, "{verdict}");
    assert!(verdict.reasons[0].text.contains("between 3 readings"), "{verdict}");
}

#[test]
fn at_least_as_many_requests_are_judged_as_were_asked_for() {
    let (stable, canary) = (tally("m", &pods(9, &ok(100))), tally("m", &pods(1, &ok(100))));
    assert!(judged(&stable, &canary).is_pass());
    let limits = Limits { min_requests: 3000, ..Limits::default() };
    let verdict = Judge { limits }.judge(1, Against::Now(&stable), &canary);
    assert_eq!(verdict.decision, Decision::TooLittle { more: Some(600) });
}

#[test]
fn a_model_that_is_broken_behind_a_busy_one_is_found_and_named() {
    let (busy, rare) = (pods(9, &ok(500)), pods(9, &ok(20)));
    let stable = tally_of(&[("busy", &busy), ("rare", &rare)]);
    let (busy, broken) = (pods(1, &ok(500)), pods(1, &Slice { failed: 4, ..ok(16) }));
    let verdict = judged(&stable, &tally_of(&[("busy", &busy), ("rare", &broken)]));
    assert_eq!((&verdict.decision, verdict.reasons.len()), (&Decision::Fail, 1), "{verdict}");
    let text = "canary: 96 of 480 requests to rare failed (20.0 %), stable: 0 of 4320 (0 %)";
    assert_eq!(verdict.reasons[0].text, text);
    assert_eq!(verdict.reasons[0].model.as_deref(), Some("rare"));
    // One that it does not serve at all, of which there is no count, does not pass for faultless.
    let (busy, half) = (pods(9, &ok(20)), pods(9, &ok(20)));
    let stable = tally_of(&[("busy", &busy), ("half", &half)]);
    let verdict = judged(&stable, &tally("busy", &pods(1, &ok(20))));
    assert!(!verdict.is_pass(), "{verdict}");
    assert!(verdict.to_string().contains("answered no requests to half"), "{verdict}");
}

#[test]
fn a_window_of_the_past_allows_twice_as_much() {
    let stable = tally("m", &pods(5, &ok(100)));
    let judge = Judge { limits: Limits::default() };
    for (failed, fails_now, fails_before) in [(1, false, false), (3, true, true)] {
        let canary = tally("m", &pods(10, &Slice { failed, ..ok(100 - failed) }));
        assert_eq!(judge.judge(1, Against::Now(&stable), &canary).is_fail(), fails_now, "{failed} %");
        assert_eq!(judge.judge(1, Against::Before(&stable), &canary).is_fail(), fails_before, "{failed} %");
    }
    let canary = tally("m", &pods(10, &Slice { failed: 3, ..ok(197) }));
    assert!(judge.judge(1, Against::Now(&stable), &canary).is_fail(), "1.5 % more than now");
    assert!(judge.judge(1, Against::Before(&stable), &canary).is_pass(), "1.5 % more than before");
}

#[test]
fn a_verdict_is_written_for_programs() {
    let stable = tally("m", &pods(9, &ok(20)));
    let verdict = judged(&stable, &tally("m", &pods(1, &Slice { failed: 2, ..ok(18) })));
    let json = serde_json::to_value(&verdict).unwrap();
    assert_eq!(json["decision"], "fail");
    let reason = &json["reasons"][0];
    assert_eq!(
        (&reason["kind"], &reason["canary"]["count"], &reason["stable"]["of"]),
        (&"failed".into(), &48.into(), &4320.into())
    );
    assert!(reason["chance"].as_f64().unwrap() < 1e-6 && reason.get("model").is_none());
    let json = serde_json::to_value(judged(&stable, &tally("m", &pods(1, &ok(1))))).unwrap();
    assert_eq!(json["decision"], "too_little");
    assert!(json["more"].as_u64().unwrap() > 0);
}

fn slice() -> impl Strategy<Value = Slice> {
    (0..60_u64, 0..4_u64, 0..4_u64, 0..20_u64, 0..6_u64).prop_map(|(ok, failed, refused, rejected, slow)| Slice {
        ok,
        failed,
        refused,
        rejected,
        slow: slow.min(ok),
    })
}

fn track(pods: usize) -> impl Strategy<Value = Vec<Vec<Slice>>> {
    prop::collection::vec(prop::collection::vec(slice(), 12), pods)
}

proptest! {
    #[test]
    fn more_trouble_of_the_canary_never_ends_a_fail(
        stable in track(3), canary in track(2), pod in 0..2_usize, round in 0..12_usize, what in 0..4_usize, more in 1..60_u64,
    ) {
        let stable = tally("m", &stable);
        let first = judged(&stable, &tally("m", &canary));
        let mut worse = canary;
        let slice = &mut worse[pod][round];
        let more = more.min(slice.ok - slice.slow);
        match what {
            0 => (slice.ok, slice.failed) = (slice.ok - more, slice.failed + more),
            1 => (slice.ok, slice.refused) = (slice.ok - more, slice.refused + more),
            2 => slice.slow += more,
            _ => slice.failed += more,
        }
        let second = judged(&stable, &tally("m", &worse));
        prop_assert!(!first.is_fail() || second.is_fail(), "{}\nthen\n{}", first, second);
    }

    #[test]
    fn a_pass_needs_enough_requests(per_round in 0..4_u64, stable in track(3)) {
        let verdict = judged(&tally("m", &stable), &tally("m", &pods(1, &ok(per_round))));
        prop_assert!(!verdict.is_pass(), "{} requests", 24 * per_round);
    }

    #[test]
    fn later_looks_are_never_stricter(stable in track(3), canary in track(2), look in 1..20_u32) {
        let (stable, canary) = (tally("m", &stable), tally("m", &canary));
        let judge = Judge { limits: Limits::default() };
        let [first, second] = [look, look + 1].map(|look| judge.judge(look, Against::Now(&stable), &canary));
        prop_assert!(first.is_fail() || !second.is_fail());
    }

    #[test]
    fn the_order_of_pods_decides_nothing(stable in track(3), canary in track(2)) {
        let (mut back, mut forth) = (stable.clone(), stable);
        back.reverse();
        forth.rotate_left(1);
        let canary = tally("m", &canary);
        prop_assert_eq!(judged(&tally("m", &back), &canary).decision, judged(&tally("m", &forth), &canary).decision);
    }
}
