//! States as servers tell them, for tests.

use std::time::Duration;

use super::state::{Body, Dependency, Figures, Model, Probe, State, Transition};

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// In `phase` for two minutes, with one model.
pub(super) fn state(phase: &str) -> State {
    let probe = |path: &str, pass: bool, words: (&str, &str)| Probe {
        path: path.into(),
        status: if pass { 200 } else { 503 },
        body: Body {
            status: if pass { words.0 } else { words.1 }.into(),
            phase: phase.into(),
            reason: (!pass).then(|| phase.into()),
            stage: None,
            progress: None,
        },
        since: (path == "/ready").then(|| "2026-01-02T03:04:05.000Z".into()),
    };
    let serves = ["serving", "draining"].contains(&phase);
    let model = Model {
        name: "digits".into(),
        version: "1".into(),
        state: "READY".into(),
        digest: Some(format!("sha256:{}", "0123456789abcdef".repeat(4))),
        device: Some("cpu".into()),
        reason: String::new(),
        figures: Some(figures(0)),
    };
    let transition = |at: &str, from: &str, to: &str, reason: &str, seconds: f64| Transition {
        at: format!("2026-01-02T03:04:{at}Z"),
        subject: "phase".into(),
        from: from.into(),
        to: to.into(),
        reason: reason.into(),
        seconds,
        ..Transition::default()
    };
    State {
        who: "digits@1".into(),
        version: "0.1.0".into(),
        started: "2026-01-02T03:04:00.000Z".into(),
        now: "2026-01-02T03:06:05.000Z".into(),
        phase: phase.into(),
        seconds: 120.0,
        transition: "SIGTERM".into(),
        faults: Vec::new(),
        probes: vec![
            probe("/startup", serves, ("ready", "loading")),
            probe("/health", true, ("healthy", "unhealthy")),
            probe("/ready", phase == "serving", ("ready", "not_ready")),
        ],
        transitions: vec![
            transition("05.000", "warming", "serving", "every model is warm", 0.4),
            transition("04.600", "loading", "warming", "every model has been read", 1.2),
            transition("03.400", "starting", "loading", "ports are open", 0.003),
        ],
        models: if serves { vec![model] } else { Vec::new() },
        dependencies: Vec::new(),
        in_flight: 3,
        oldest_batch_seconds: 0.012,
        request_memory_bytes: 3 << 20,
        request_memory_limit_bytes: 1 << 30,
    }
}

/// After so many requests, each answered within 10 ms.
pub(super) fn figures(ok: u64) -> Figures {
    Figures {
        max_batch_rows: Some(32),
        queue_requests: 4,
        queue_rows: 8,
        ok,
        failed: 0,
        rows: 2 * ok,
        batches: ok,
        latency: vec![(0.01, ok)],
    }
}

/// Serving, after so many requests.
pub(super) fn busy(ok: u64) -> State {
    let mut state = state("serving");
    state.models[0].figures = Some(figures(ok));
    state
}

pub(super) fn loading(stage: &str, progress: f64) -> State {
    let mut told = state("loading");
    for probe in &mut told.probes {
        (probe.body.stage, probe.body.progress) = (Some(stage.into()), Some(progress));
    }
    told
}

pub(super) fn faulty(fault: &str) -> State {
    let mut state = unready(fault);
    state.faults = vec![fault.into()];
    (state.probes[1].status, state.probes[1].body.reason) = (503, Some(fault.into()));
    state
}

pub(super) fn unready(reason: &str) -> State {
    let mut state = state("serving");
    let ready = &mut state.probes[2];
    ready.status = 503;
    (ready.body.status, ready.body.reason) = ("not_ready".into(), Some(reason.into()));
    state
}

pub(super) fn down(name: &str) -> State {
    let dependency = Dependency {
        name: name.into(),
        state: "down".into(),
        required: true,
        seconds: 12.0,
        checked_seconds_ago: Some(2.0),
        latency_seconds: Some(0.001),
        error: Some("connection refused".into()),
    };
    State { dependencies: vec![dependency], ..unready("dependency_down") }
}
