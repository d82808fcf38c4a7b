//! The three verdicts that probes report, derived from the published state and from nothing else.

mod answers;
mod watch;
pub mod watchdog;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::dependency;
use crate::lifecycle::{Fault, Phase, Rx, Snapshot, State};
use answers::Answers;
pub use watch::Watch;

/// What a probe answers: whether it passes, the lesson's word for it, and why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub pass: bool,
    pub status: &'static str,
    /// A code for why it does not pass.
    pub reason: Option<&'static str>,
}

/// Everything that a probe can be asked. Cloning is cheap.
#[derive(Clone)]
pub struct Health {
    lifecycle: Rx,
    dependencies: dependency::Rx,
    ready_while_draining: bool,
    answers: Arc<Answers>,
}

/// The probes, by the name of the kubelet's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    Startup,
    Liveness,
    Readiness,
}

impl Probe {
    pub const ALL: [Self; 3] = [Self::Startup, Self::Liveness, Self::Readiness];

    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Liveness => "liveness",
            Self::Readiness => "readiness",
        }
    }
}

/// What is known of a dependency now.
#[derive(Clone, Debug)]
pub struct Dependency {
    pub report: dependency::Report,
    pub up: bool,
    /// How long it has been up or down.
    pub lasted: Duration,
}

impl Health {
    pub fn new(lifecycle: Rx, dependencies: dependency::Rx, ready_while_draining: bool) -> Self {
        Self { lifecycle, dependencies, ready_while_draining, answers: Arc::default() }
    }

    pub fn snapshot(&self) -> Snapshot {
        self.lifecycle.snapshot()
    }

    pub fn phase(&self) -> Phase {
        self.lifecycle.phase()
    }

    /// What a probe that asks now is answered, and the moment of the server's life that it was derived from. Counted:
    /// whoever only wants to know asks [`Self::passes`].
    pub fn ask(&self, probe: Probe) -> (Verdict, Snapshot) {
        let snapshot = self.lifecycle.snapshot();
        let verdict = self.verdict(probe, &snapshot.state);
        self.answers.count(probe, verdict.pass);
        (verdict, snapshot)
    }

    /// Whether `probe` would pass.
    pub fn passes(&self, probe: Probe) -> bool {
        self.verdict(probe, &self.lifecycle.snapshot().state).pass
    }

    /// How often each probe was answered: its name, the verdict, and the count.
    pub fn answers(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.answers.read()
    }

    /// What `probe` says of a moment that may have passed.
    pub fn verdict(&self, probe: Probe, state: &State) -> Verdict {
        verdict(probe, state, self.ready_while_draining)
    }

    /// The transition by which `probe` came to pass, or not to, as it does in `snapshot`. None, where it has been so from
    /// the start, or for longer than transitions are kept.
    pub fn turned(&self, probe: Probe, snapshot: &Snapshot) -> Option<SystemTime> {
        let pass = |state: &State| self.verdict(probe, state).pass;
        let now = pass(&snapshot.state);
        // The first transition turns nothing: every probe answers in `starting` as it does in what may follow.
        let before = snapshot.history.last().rposition(|transition| pass(&transition.after) != now)?;
        snapshot.history.last().nth(before + 1).map(|transition| transition.at)
    }

    /// Each dependency as it was at the moment of `snapshot`, with its latest check.
    pub fn dependencies(&self, snapshot: &Snapshot) -> Vec<Dependency> {
        let reports = self.dependencies.reports().into_iter().enumerate();
        let known = reports.map(|(index, report)| Dependency {
            up: snapshot.state.dependencies.is_up(index),
            lasted: snapshot.history.since(&report.name).elapsed(),
            report,
        });
        known.collect()
    }
}

/// What `probe` says of `state`.
fn verdict(probe: Probe, state: &State, ready_while_draining: bool) -> Verdict {
    let (objection, pass, fail) = match probe {
        Probe::Startup => (startup(state), "ready", "loading"),
        Probe::Liveness => (liveness(state), "healthy", "unhealthy"),
        Probe::Readiness => (readiness(state, ready_while_draining), "ready", "not_ready"),
    };
    Verdict { pass: objection.is_none(), status: if objection.is_none() { pass } else { fail }, reason: objection }
}

fn startup(state: &State) -> Option<&'static str> {
    (!state.phase.startup_complete()).then(|| state.phase.name())
}

/// Only a fault while serving. Loading, draining and even a failed load are no reason to kill the container: the process
/// ends by itself. Dependencies do not belong here: a restart cures none of them.
fn liveness(state: &State) -> Option<&'static str> {
    let fault = state.faults.worst().filter(|_| state.phase == Phase::Serving);
    fault.map(Fault::name)
}

fn readiness(state: &State, ready_while_draining: bool) -> Option<&'static str> {
    match state.phase {
        Phase::Serving => {}
        Phase::Draining { served: true } if ready_while_draining => {}
        phase => return Some(phase.name()),
    }
    match state.faults.worst() {
        Some(fault) => Some(fault.name()),
        None if state.vacant => Some("no_model"),
        None => (!state.dependencies.suffice()).then_some("dependency_down"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lifecycle::state::tests::life;
    use crate::lifecycle::{self, Dependencies, Event};

    fn pass(probe: Probe, state: &State) -> bool {
        verdict(probe, state, false).pass
    }

    #[test]
    fn the_verdicts_follow_the_table_of_phases() {
        // phase, /startup, /health, /ready
        let table = [
            (Phase::Starting, (false, true, false)),
            (Phase::Loading, (false, true, false)),
            (Phase::Warming, (false, true, false)),
            (Phase::Serving, (true, true, true)),
            (Phase::Draining { served: true }, (true, true, false)),
            (Phase::Draining { served: false }, (false, true, false)),
            (Phase::Failed, (false, true, false)),
        ];
        for (phase, expected) in table {
            let state = State { phase, ..State::new(Dependencies::default()) };
            let got = [Probe::Startup, Probe::Liveness, Probe::Readiness].map(|probe| pass(probe, &state));
            assert_eq!(got, <[bool; 3]>::from(expected), "{phase}");
        }
    }

    #[test]
    fn a_fault_while_serving_fails_liveness_and_readiness_and_is_the_reason() {
        for fault in Fault::ALL {
            let serving = State { phase: Phase::Serving, ..State::new(Dependencies::default()) };
            let state = serving.next(Event::Raised(fault)).unwrap();
            let liveness = verdict(Probe::Liveness, &state, false);
            assert_eq!((liveness.pass, liveness.status, liveness.reason), (false, "unhealthy", Some(fault.name())));
            assert_eq!(verdict(Probe::Readiness, &state, false).reason, Some(fault.name()));
            assert!(pass(Probe::Startup, &state));
        }
    }

    #[test]
    fn a_required_dependency_that_is_down_fails_readiness_alone() {
        let state = State { phase: Phase::Serving, ..State::new(Dependencies::new([true])) };
        assert_eq!(verdict(Probe::Readiness, &state, false).reason, Some("dependency_down"));
        assert!(pass(Probe::Liveness, &state) && pass(Probe::Startup, &state));
        assert!(pass(Probe::Readiness, &state.next(Event::Up(0)).unwrap()));
    }

    #[test]
    fn a_server_whose_last_model_was_unloaded_is_alive_and_not_ready() {
        let serving = State { phase: Phase::Serving, ..State::new(Dependencies::default()) };
        let state = serving.next(Event::Emptied).unwrap();
        assert_eq!(verdict(Probe::Readiness, &state, false).reason, Some("no_model"));
        assert!(pass(Probe::Liveness, &state) && pass(Probe::Startup, &state));
        assert!(pass(Probe::Readiness, &state.next(Event::Filled).unwrap()));
        assert!(!verdict(Probe::Readiness, &state.next(Event::Terminate).unwrap(), true).pass);
    }

    #[test]
    fn a_drain_that_was_asked_to_stays_ready_only_if_it_served() {
        let draining = |served| State { phase: Phase::Draining { served }, ..State::new(Dependencies::default()) };
        assert!(verdict(Probe::Readiness, &draining(true), true).pass);
        assert!(!verdict(Probe::Readiness, &draining(false), true).pass);
    }

    #[test]
    fn answers_are_counted_by_verdict_and_mere_questions_are_not() {
        let (lifecycle, rx) = lifecycle::channel([]);
        let health = Health::new(rx, dependency::watch(Vec::new(), |_| {}), false);
        health.ask(Probe::Readiness);
        health.clone().ask(Probe::Readiness);
        for event in [Event::LoadStarted, Event::Loaded, Event::Warmed] {
            lifecycle.apply(event, "a reason");
        }
        health.ask(Probe::Readiness);
        assert!(health.passes(Probe::Liveness) && health.verdict(Probe::Startup, &health.snapshot().state).pass);
        let counted: Vec<_> = health.answers().into_iter().filter(|(.., count)| *count > 0).collect();
        assert_eq!(counted, [("readiness", "fail", 2), ("readiness", "pass", 1)]);
        assert_eq!(health.answers().len(), 6, "what has not come yet is counted as well");
    }

    #[test]
    fn a_probe_turned_with_the_transition_that_changed_what_it_says() {
        let (lifecycle, rx) = lifecycle::channel([("redis", true)]);
        let health = Health::new(rx, dependency::watch(Vec::new(), |_| {}), false);
        let turned = || {
            let snapshot = health.snapshot();
            let by = |at| snapshot.history.last().find(|transition| transition.at == at).map(|found| found.to);
            [Probe::Startup, Probe::Liveness, Probe::Readiness]
                .map(|probe| health.turned(probe, &snapshot).and_then(by).unwrap_or("never"))
        };
        assert_eq!(turned(), ["never"; 3]);
        for (event, expected) in [
            (Event::LoadStarted, ["never"; 3]),
            (Event::Loaded, ["never"; 3]),
            (Event::Warmed, ["serving", "never", "never"]),
            (Event::Up(0), ["serving", "never", "up"]),
            (Event::Raised(Fault::Hung), ["serving", "raised", "raised"]),
            (Event::Down(0), ["serving", "raised", "raised"]),
            (Event::Cleared(Fault::Hung), ["serving", "clear", "raised"]),
            (Event::Up(0), ["serving", "clear", "up"]),
            (Event::Terminate, ["serving", "clear", "draining"]),
        ] {
            // No two at one moment of a coarse clock.
            std::thread::sleep(Duration::from_millis(2));
            assert!(lifecycle.apply(event, "a reason"), "{event:?}");
            assert_eq!(turned(), expected, "{event:?}");
        }
    }

    proptest! {
        #[test]
        fn nobody_is_ready_vacuously(life in life()) {
            for (index, state) in life.iter().enumerate().filter(|(_, state)| pass(Probe::Readiness, state)) {
                prop_assert!(state.dependencies.is_up(0) && state.dependencies.is_up(2));
                prop_assert!(!state.vacant);
                let before = |phase| life[..index].iter().any(|state| state.phase == phase);
                prop_assert!(before(Phase::Loading) && before(Phase::Warming));
            }
        }

        #[test]
        fn startup_once_complete_stays_complete_until_the_end(life in life()) {
            let served = life.iter().position(|state| state.phase == Phase::Serving).unwrap_or(life.len());
            for (index, state) in life.iter().enumerate().filter(|(_, state)| state.phase != Phase::Stopped) {
                prop_assert_eq!(pass(Probe::Startup, state), index >= served);
            }
        }

        #[test]
        fn draining_never_returns_to_serving(life in life()) {
            let draining = life.iter().skip_while(|state| !matches!(state.phase, Phase::Draining { .. }));
            for state in draining {
                let still = matches!(state.phase, Phase::Draining { .. } | Phase::Stopped);
                prop_assert!(still);
                prop_assert!(!pass(Probe::Readiness, state));
            }
        }

        #[test]
        fn dependencies_never_touch_liveness_or_startup(life in life()) {
            for state in life {
                for index in 0..3 {
                    for event in [Event::Up(index), Event::Down(index)] {
                        let after = state.next(event).unwrap_or(state);
                        prop_assert_eq!(pass(Probe::Liveness, &state), pass(Probe::Liveness, &after));
                        prop_assert_eq!(pass(Probe::Startup, &state), pass(Probe::Startup, &after));
                    }
                }
            }
        }

        #[test]
        fn models_that_come_and_go_never_touch_liveness_or_startup(life in life()) {
            for state in life {
                for event in [Event::Emptied, Event::Filled] {
                    let after = state.next(event).unwrap_or(state);
                    prop_assert_eq!(pass(Probe::Liveness, &state), pass(Probe::Liveness, &after));
                    prop_assert_eq!(pass(Probe::Startup, &state), pass(Probe::Startup, &after));
                }
            }
        }

        #[test]
        fn optional_dependencies_never_touch_readiness(life in life()) {
            for state in life {
                let after = state.next(Event::Up(1)).or_else(|| state.next(Event::Down(1))).unwrap_or(state);
                prop_assert_eq!(pass(Probe::Readiness, &state), pass(Probe::Readiness, &after));
            }
        }

        #[test]
        fn liveness_fails_only_for_a_fault_while_serving(life in life()) {
            for state in life {
                let faulty = state.phase == Phase::Serving && state.faults.worst().is_some();
                prop_assert_eq!(pass(Probe::Liveness, &state), !faulty);
            }
        }

        #[test]
        fn whoever_is_ready_is_alive_and_started(life in life()) {
            for state in life.iter().filter(|state| pass(Probe::Readiness, state)) {
                prop_assert!(pass(Probe::Liveness, state) && pass(Probe::Startup, state));
            }
        }
    }
}
