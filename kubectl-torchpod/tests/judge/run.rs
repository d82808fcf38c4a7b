//! Whole runs, as a release makes them: 10, 25, 50 and 100 % of ten pods, two minutes a gate, longer where there is too
//! little traffic, a look every half minute.

use std::{fmt, thread};

use kubectl_torchpod::judge::{Against, Decision, Judge, Limits, Tally, Verdict, Window};

use crate::world::{Pod, Version, World};

const PODS: usize = 10;
const STEPS: [usize; 4] = [1, 3, 5, 10];
/// In rounds, as all times here.
const GATE: u32 = 24;
const LONGEST: u32 = 360;
const LOOK: u32 = 6;

const RUNS: u64 = 200;
const ALLOWED: usize = 2;

/// How a run ended.
struct End {
    seed: u64,
    step: usize,
    verdict: Verdict,
}

impl fmt::Debug for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "run {}, gate {}: {}", self.seed, self.step + 1, self.verdict)
    }
}

fn run(seed: u64, version: Version) -> End {
    let mut world = World::new(seed);
    let mut before = Tally::default();
    let mut last = None;
    for (step, canaries) in STEPS.into_iter().enumerate() {
        let mut pods = world.pods("stable", PODS - canaries, false);
        pods.extend(world.pods("canary", canaries, true));
        let (verdict, stable) = gate(&mut world, &mut pods, version, &before);
        before = stable;
        let is_over = !verdict.is_pass();
        last = Some(End { seed, step, verdict });
        if is_over {
            break;
        }
    }
    last.expect("a run has steps")
}

fn gate(world: &mut World, pods: &mut [Pod], version: Version, before: &Tally) -> (Verdict, Tally) {
    let judge = Judge { limits: Limits::default() };
    let (mut stable, mut canary) = (Window::default(), Window::default());
    read(pods, &mut stable, &mut canary);
    for round in 1.. {
        world.pass(pods, version);
        read(pods, &mut stable, &mut canary);
        if round % LOOK > 0 {
            continue;
        }
        let now = stable.tally();
        let against = if now.pods == 0 { Against::Before(before) } else { Against::Now(&now) };
        let verdict = judge.judge(round / LOOK, against, &canary.tally());
        let is_over = match verdict.decision {
            Decision::Fail => true,
            Decision::Pass => round >= GATE,
            Decision::TooLittle { .. } => round >= LONGEST,
        };
        if is_over {
            return (verdict, now);
        }
    }
    unreachable!("every gate ends")
}

fn read(pods: &[Pod], stable: &mut Window, canary: &mut Window) {
    let seen = |is_canary| pods.iter().filter(move |pod| pod.is_canary == is_canary).map(Pod::seen);
    stable.round(seen(false));
    canary.round(seen(true));
}

/// The ends of all runs with a version that are as `decision` has it.
fn ends(version: Version, is_such: fn(&Decision) -> bool) -> Vec<End> {
    let half = |seeds: std::ops::Range<u64>| seeds.map(|seed| run(seed, version)).collect::<Vec<_>>();
    let ends = thread::scope(|scope| {
        let other = scope.spawn(|| half(RUNS / 2..RUNS));
        let mut ends = half(0..RUNS / 2);
        ends.extend(other.join().expect("it has simulated"));
        ends
    });
    ends.into_iter().filter(|end| is_such(&end.verdict.decision)).collect()
}

fn is_pass(decision: &Decision) -> bool {
    *decision == Decision::Pass
}

#[test]
fn good_versions_are_hardly_ever_stopped_and_hardly_ever_keep_a_run_waiting_for_half_an_hour() {
    let ends = ends(Version::Good, |decision| !is_pass(decision));
    let alarms = ends.iter().filter(|end| end.verdict.is_fail()).count();
    assert!(alarms <= ALLOWED, "{alarms} false alarms: {ends:?}");
    assert!(ends.len() - alarms <= 2 * ALLOWED, "too little traffic: {ends:?}");
}

#[test]
fn versions_that_fail_one_request_in_twenty_do_not_pass() {
    let missed = ends(Version::Failing, is_pass);
    assert!(missed.len() <= ALLOWED, "{missed:?}");
}

#[test]
fn versions_three_times_slower_do_not_pass() {
    let missed = ends(Version::ThreeTimesSlower, is_pass);
    assert!(missed.len() <= ALLOWED, "{missed:?}");
}

#[test]
fn versions_that_are_slow_only_under_load_do_not_pass() {
    let missed = ends(Version::SlowUnderLoad, is_pass);
    assert!(missed.len() <= ALLOWED, "{missed:?}");
}
