//! What holds for every rollout, whatever its numbers.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kubectl_torchpod::rollout::simulation::{Act, End, Outcome, Phase, Planned, Scenario, Start, Workload, run};
use kubectl_torchpod::rollout::{
    Action, Apart, Controller, End as Leaving, Load, Needs, Observed, Probe, Probes, Spec, Strategy, Template,
};
use proptest::prelude::{Just, Strategy as _, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

fn amount() -> impl prop::strategy::Strategy<Value = IntOrString> {
    prop_oneof![
        (0..6).prop_map(IntOrString::Int),
        (0..=100).prop_map(|percent| IntOrString::String(format!("{percent}%"))),
    ]
}

fn strategy() -> impl prop::strategy::Strategy<Value = Strategy> {
    let rolling = (amount(), amount()).prop_map(|(surge, unavailable)| Strategy::Rolling { surge, unavailable });
    prop_oneof![9 => rolling, 1 => Just(Strategy::Recreate)]
}

fn spec() -> impl prop::strategy::Strategy<Value = Spec> {
    (0..30, strategy(), 0..4_u64).prop_map(|(replicas, strategy, min_ready)| Spec {
        template: Template(0),
        replicas,
        strategy,
        min_ready: Duration::from_secs(min_ready),
        deadline: Some(Duration::from_mins(10)),
        paused: false,
    })
}

fn probes() -> impl prop::strategy::Strategy<Value = Probes> {
    let probe = (0..5_u64, 1..6_u64, 1..4_u32).prop_map(|(delay, period, successes)| Probe {
        delay: Duration::from_secs(delay),
        period: Duration::from_secs(period),
        successes,
        failures: 60,
    });
    (prop::option::of(probe.clone()), prop::option::of(probe))
        .prop_map(|(startup, readiness)| Probes { startup, readiness })
}

fn scenario(new: Load) -> impl prop::strategy::Strategy<Value = Scenario> {
    let clocks = (0..1_000_u64, 0..1_000_u64);
    (spec(), probes(), 0..8_000_u64, any::<bool>(), clocks).prop_map(
        move |(spec, probes, stop, volumes, (listing, second))| {
            let workload = Workload {
                spec,
                start: Start::Running,
                versions: vec![Load::Serves(Duration::from_secs(1)), new, Load::Serves(Duration::from_secs(2))],
                probes,
                volumes,
                stop: Duration::from_millis(stop),
                needs: Needs::default(),
                asks: Vec::new(),
                budget: None,
            };
            Scenario {
                workloads: vec![workload],
                nodes: 2,
                gpus: 0,
                quota: Vec::new(),
                actions: vec![Planned { at: Duration::ZERO, workload: 0, act: Act::Update(1) }],
                phase: Phase { listing: Duration::from_millis(listing), second: Duration::from_millis(second) },
            }
        },
    )
}

fn good() -> Load {
    Load::Serves(Duration::from_millis(1_700))
}

fn keeps_its_bounds(scenario: &Scenario, outcome: &Outcome) -> Result<(), proptest::test_runner::TestCaseError> {
    let spec = &scenario.workloads[0].spec;
    stays_available(scenario, outcome)?;
    prop_assert!(outcome.max_pods <= spec.most(), "{} of {}", outcome.max_pods, spec.most());
    Ok(())
}

fn stays_available(scenario: &Scenario, outcome: &Outcome) -> Result<(), proptest::test_runner::TestCaseError> {
    let spec = &scenario.workloads[0].spec;
    prop_assert!(outcome.min_available >= spec.least(), "{} of {}", outcome.min_available, spec.least());
    prop_assert!(outcome.min_ready >= spec.least(), "{} of {}", outcome.min_ready, spec.least());
    Ok(())
}

fn later() -> impl prop::strategy::Strategy<Value = (u64, Act)> {
    let act = prop_oneof![
        Just(Act::Update(2)),
        Just(Act::Undo),
        (0..30).prop_map(Act::Scale),
        Just(Act::Pause),
        Just(Act::Resume),
        Just(Act::Drain(0)),
    ];
    (0..20_000_u64, act)
}

proptest! {
    #[test]
    fn a_good_version_is_rolled_out_and_the_promise_is_kept(scenario in scenario(good())) {
        let outcome = run(&scenario);
        prop_assert_eq!(outcome.end, End::Complete);
        keeps_its_bounds(&scenario, &outcome)?;
        let last = outcome.steps.last().expect("something happens");
        let pods: i32 = last.sets.iter().map(|view| view.pods + view.terminating).sum();
        prop_assert_eq!(pods, scenario.workloads[0].spec.replicas, "nobody is left over");
    }

    #[test]
    fn a_bad_version_stops_and_the_promise_is_kept(scenario in scenario(Load::Crashes)) {
        let outcome = run(&scenario);
        keeps_its_bounds(&scenario, &outcome)?;
        let none = scenario.workloads[0].spec.replicas == 0;
        prop_assert_eq!(outcome.end, if none { End::Complete } else { End::Deadline });
    }

    #[test]
    fn an_undo_brings_everything_back(scenario in scenario(Load::NeverReady(Duration::from_secs(1))), at in 0..30_000_u64) {
        let mut scenario = scenario;
        scenario.workloads[0].probes.readiness = Some(Probe {
            delay: Duration::ZERO,
            period: Duration::from_secs(1),
            successes: 1,
            failures: 3,
        });
        scenario.actions.push(Planned { at: Duration::from_millis(at), workload: 0, act: Act::Undo });
        let outcome = run(&scenario);
        // A Deployment counts what its sets were told to have, and a set deletes a moment after it was told to: an undo in
        // the middle of a surge may have more pods for that moment, as in a cluster.
        stays_available(&scenario, &outcome)?;
        prop_assert_eq!(outcome.end, End::Complete);
        let first = outcome.steps.last().expect("something happens").sets[0];
        prop_assert_eq!((first.template, first.ready), (Template(0), scenario.workloads[0].spec.replicas));
    }

    #[test]
    fn without_room_it_completes_or_says_that_pods_wait(scenario in scenario(good()), gpus in 0..3_u32, apart in any::<bool>()) {
        let mut scenario = scenario;
        let replicas = usize::try_from(scenario.workloads[0].spec.replicas).unwrap();
        scenario.workloads[0].needs = Needs { gpus: 1, apart: if apart { Apart::All } else { Apart::No } };
        (scenario.nodes, scenario.gpus) = (replicas.max(1), 1 + gpus);
        let outcome = run(&scenario);
        keeps_its_bounds(&scenario, &outcome)?;
        prop_assert!(outcome.max_gpus <= i64::try_from(replicas.max(1)).unwrap() * i64::from(1 + gpus));
        let waits = !outcome.waiting.is_empty();
        prop_assert_eq!(outcome.end, if waits { End::Blocked } else { End::Complete });
    }

    #[test]
    fn a_quota_without_room_is_told_of(scenario in scenario(good()), spare in 0..3_i32) {
        let mut scenario = scenario;
        let spec = &scenario.workloads[0].spec;
        let hard = spec.replicas + spare;
        scenario.workloads[0].asks = vec![1];
        scenario.quota = vec![i128::from(hard)];
        let outcome = run(&scenario);
        keeps_its_bounds(&scenario, &outcome)?;
        prop_assert!(outcome.max_pods <= hard);
        prop_assert_eq!(outcome.end, if outcome.over_quota { End::Blocked } else { End::Complete });
    }

    #[test]
    fn whatever_people_do_meanwhile_it_ends(scenario in scenario(good()), acts in prop::collection::vec(later(), 0..6)) {
        let mut scenario = scenario;
        let acts = acts.into_iter().map(|(at, act)| Planned { at: Duration::from_millis(at), workload: 0, act });
        scenario.actions.extend(acts);
        scenario.actions.sort_by_key(|planned| planned.at);
        let outcome = run(&scenario);
        let paused = scenario.actions.iter().rev().find(|planned| matches!(planned.act, Act::Pause | Act::Resume));
        let paused = paused.is_some_and(|planned| planned.act == Act::Pause);
        let ends = match outcome.end {
            End::Complete => true,
            End::Paused => paused,
            End::Blocked => !outcome.waiting.is_empty(),
            End::Deadline | End::Stuck => false,
        };
        prop_assert!(ends, "{:?}", outcome.end);
    }

    /// The controller writes what it decided by the template that it had read.
    #[test]
    fn an_undo_while_the_controller_writes_ends(scenario in scenario(good()), after in 0..100_u64) {
        let mut scenario = scenario;
        let later = Duration::from_mins(1);
        for (at, act) in [(later, Act::Update(2)), (later + Duration::from_millis(after), Act::Undo)] {
            scenario.actions.push(Planned { at, workload: 0, act });
        }
        let outcome = run(&scenario);
        prop_assert_eq!(outcome.end, End::Complete);
        let sets = &outcome.steps.last().expect("something happens").sets;
        let pods = |template| sets.iter().filter(|set| set.template == Template(template)).map(|set| set.ready).sum::<i32>();
        prop_assert_eq!((pods(1), pods(2)), (scenario.workloads[0].spec.replicas, 0));
        let twice = sets.iter().filter(|set| set.template == Template(1)).count() > 1;
        prop_assert!(!twice, "one ReplicaSet for each template");
    }

    /// Somebody drives real pods with it: they get ready, and end, in any order and at any time.
    #[test]
    fn the_controller_alone_keeps_the_promise_too(spec in spec(), turns in prop::collection::vec(any::<u32>(), 4_000)) {
        let mut controller = Controller::running(&spec);
        let mut pods: Vec<Observed<usize>> = Vec::new();
        let (mut wanted, mut now) = (spec.clone(), Duration::from_secs(1_000));
        for id in 0..usize::try_from(spec.replicas).unwrap() {
            pods.push(Observed { ready_since: Some(Duration::ZERO), ..fresh(id, spec.template, Duration::ZERO) });
        }
        wanted.template = Template(1);
        let mut turns = turns.into_iter();
        while !controller.is_done(&wanted, &pods, now) {
            let Some(turn) = turns.next() else { prop_assert!(false, "it never ends"); break };
            now += Duration::from_secs(1);
            for action in controller.next(&wanted, &pods, now) {
                match action {
                    Action::Create(template) => pods.push(fresh(pods.len(), template, now)),
                    Action::Delete(id) => {
                        pods[id].end = Leaving::Terminating;
                    }
                }
            }
            step(&mut pods, turn, now);
            let there = pods.iter().filter(|pod| pod.end == Leaving::Stays);
            prop_assert!(there.clone().count() <= usize::try_from(wanted.most()).unwrap());
            let ready = there.filter(|pod| pod.ready_since.is_some_and(|since| since + wanted.min_ready <= now)).count();
            prop_assert!(ready >= usize::try_from(wanted.least()).unwrap());
        }
    }
}

fn fresh(id: usize, template: Template, created: Duration) -> Observed<usize> {
    let end = Leaving::Stays;
    Observed { id, template, created, scheduled: true, running: true, ready_since: None, restarts: 0, end }
}

/// One pod, chosen by chance, gets ready or has ended.
fn step(pods: &mut [Observed<usize>], turn: u32, now: Duration) {
    let moving: Vec<usize> = pods
        .iter()
        .filter(|pod| match pod.end {
            Leaving::Stays => pod.ready_since.is_none(),
            Leaving::Terminating => true,
            Leaving::Finished => false,
        })
        .map(|pod| pod.id)
        .collect();
    if moving.is_empty() {
        return;
    }
    let pod = &mut pods[moving[usize::try_from(turn).unwrap() % moving.len()]];
    match pod.end {
        Leaving::Stays => pod.ready_since = Some(now),
        _ => pod.end = Leaving::Finished,
    }
}
