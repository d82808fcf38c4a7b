//! The three verdicts that probes report, derived from the lifecycle and from nothing else.

mod watch;

pub use watch::Watch;

use crate::lifecycle::{Phase, Rx, Snapshot};

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
    ready_while_draining: bool,
}

/// The probes, by the name of the kubelet's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    Startup,
    Liveness,
    Readiness,
}

impl Health {
    pub fn new(lifecycle: Rx, ready_while_draining: bool) -> Self {
        Self { lifecycle, ready_while_draining }
    }

    pub fn phase(&self) -> Phase {
        self.lifecycle.phase()
    }

    /// The verdict, and the moment of the server's life that it was derived from.
    pub fn ask(&self, probe: Probe) -> (Verdict, Snapshot) {
        let snapshot = self.lifecycle.snapshot();
        let verdict = match probe {
            Probe::Startup => startup(snapshot.phase),
            Probe::Liveness => liveness(snapshot.phase),
            Probe::Readiness => readiness(snapshot.phase, self.ready_while_draining),
        };
        (verdict, snapshot)
    }
}

fn startup(phase: Phase) -> Verdict {
    let pass = phase.startup_complete();
    Verdict { pass, status: if pass { "ready" } else { "loading" }, reason: (!pass).then(|| phase.name()) }
}

/// Loading, draining and even a failed load are no reason to kill the container: the process ends by itself.
fn liveness(_phase: Phase) -> Verdict {
    Verdict { pass: true, status: "healthy", reason: None }
}

fn readiness(phase: Phase, ready_while_draining: bool) -> Verdict {
    let pass = match phase {
        Phase::Serving => true,
        Phase::Draining { served } => served && ready_while_draining,
        _ => false,
    };
    Verdict { pass, status: if pass { "ready" } else { "not_ready" }, reason: (!pass).then(|| phase.name()) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let got = (startup(phase).pass, liveness(phase).pass, readiness(phase, false).pass);
            assert_eq!(got, expected, "{phase}");
        }
    }

    #[test]
    fn a_drain_that_was_asked_to_stays_ready_only_if_it_served() {
        assert!(readiness(Phase::Draining { served: true }, true).pass);
        assert!(!readiness(Phase::Draining { served: false }, true).pass);
    }
}
