//! Whole runs, as a release makes them: 10, 25, 50 and 100 % of ten pods, two minutes a gate, longer where there is too
//! little traffic, a look every half minute.

use std::thread;

use kubectl_torchpod::judge::{Against, Decision, Judge, Limits, Tally, Verdict, Window};

use crate::world::{Version, World};

const STEPS: [usize; 4] = [1, 3, 5, 10];
const PODS: usize = 10;
const GATE: u32 = 24;
const LONGEST: u32 = 360;
const LOOK: u32 = 6;

#[derive(Debug)]
struct End {
    verdict: Verdict,
    step: usize,
    rounds: u32,
    rate: f64,
}

fn run(seed: u64, version: Version) -> End {
    let mut world = World::new(seed);
    let judge = Judge { limits: Limits::default() };
    let mut before = Tally::default();
    let mut end = None;
    for (step, canaries) in STEPS.into_iter().enumerate() {
        let mut pods = world.pods("stable", PODS - canaries, false);
        pods.extend(world.pods("canary", canaries, true));
        let (verdict, stable, rounds) = gate(&mut world, &judge, &mut pods, (version, &before));
        before = stable;
        let is_pass = verdict.is_pass();
        end = Some(End { verdict, step, rounds, rate: world.rate });
        if !is_pass {
            break;
        }
    }
    end.expect("there are steps")
}

fn gate(
    world: &mut World,
    judge: &Judge,
    pods: &mut [crate::world::Pod],
    (version, before): (Version, &Tally),
) -> (Verdict, Tally, u32) {
    let (mut stable, mut canary) = (Window::default(), Window::default());
    let mut look = 0;
    let mut round = 0;
    loop {
        let (theirs, ours): (Vec<_>, Vec<_>) = pods.iter().partition(|pod| pod.is_canary);
        stable.round(ours.into_iter().map(|pod| pod.seen()));
        canary.round(theirs.into_iter().map(|pod| pod.seen()));
        let (now, canary) = (stable.tally(), canary.tally());
        if round > 0 && round % LOOK == 0 {
            look += 1;
            let against = if now.pods == 0 { Against::Before(before) } else { Against::Now(&now) };
            let verdict = judge.judge(look, against, &canary);
            let is_over = match verdict.decision {
                Decision::Fail => true,
                Decision::Pass => round >= GATE,
                Decision::TooLittle { .. } => round >= LONGEST,
            };
            if is_over {
                return (verdict, now, round);
            }
        }
        world.pass(pods, version);
        round += 1;
    }
}

const RUNS: u64 = 200;
fn runs() -> u64 {
    std::env::var("RUNS").ok().map_or(RUNS, |r| r.parse().unwrap())
}

/// How many runs of a version ended with each decision: passed, failed, undecided.
fn ends(version: Version) -> [Vec<End>; 3] {
    let first: u64 = std::env::var("FIRST").ok().map_or(0, |r| r.parse().unwrap());
    let seeds: Vec<u64> = (first..first + runs()).collect();
    let halves = seeds.chunks((seeds.len() + 1) / 2);
    let ends: Vec<End> = thread::scope(|scope| {
        let threads: Vec<_> = halves
            .map(|seeds| scope.spawn(move || seeds.iter().map(|seed| run(*seed, version)).collect::<Vec<_>>()))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let mut by_decision = [Vec::new(), Vec::new(), Vec::new()];
    for end in ends {
        let place = match end.verdict.decision {
            Decision::Pass => 0,
            Decision::Fail => 1,
            Decision::TooLittle { .. } => 2,
        };
        by_decision[place].push(end);
    }
    by_decision
}

#[test]
fn explore() {
    for version in [Version::Good, Version::Failing, Version::ThreeTimesSlower, Version::SlowUnderLoad] {
        let start = std::time::Instant::now();
        let ends = ends(version);
        println!(
            "{version:?}: pass {} fail {} undecided {} in {:?}",
            ends[0].len(),
            ends[1].len(),
            ends[2].len(),
            start.elapsed()
        );
        let mut steps = std::collections::BTreeMap::new();
        for end in ends.iter().flatten() {
            *steps.entry((end.step, end.rounds, end.verdict.is_fail())).or_insert(0) += 1;
        }
        println!("{steps:?}");
        for end in ends[usize::from(version == Version::Good)].iter().chain(&ends[2]).take(12) {
            println!("  step {} rounds {} rate {:.0}: {}", end.step, end.rounds, end.rate, end.verdict);
        }
    }
}
