//! The recordings in tests/data/kubelet, made on a node with Kubernetes 1.36.2, replayed through [`Container`]: from a
//! real kubelet's questions and their answers, it must conclude what that kubelet did.

use std::fs;
use std::iter::successors;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::container::{Container, Event, Probe, Spec};
use crate::support::ROOT;

/// Seconds from an event's cause to the pod's status or the kubelet's own event; the recorded machine was busy.
const SOON: f64 = 0.15;

#[derive(Deserialize)]
struct Recording {
    /// The wall clock at t = 0.
    recorded: String,
    spec: Value,
    containers: Vec<Started>,
    /// Changes of the pod's status, and the kubelet's events.
    events: Vec<Value>,
    /// What the server was asked, and what it answered.
    hits: Vec<Hit>,
}

#[derive(Deserialize)]
struct Started {
    n: u64,
    start: f64,
}

#[derive(Deserialize)]
struct Hit {
    t: f64,
    c: u64,
    what: String,
    code: Option<u16>,
}

impl Hit {
    fn probe(&self) -> Option<Probe> {
        match self.what.as_str() {
            "startup" => Some(Probe::Startup),
            "liveness" => Some(Probe::Liveness),
            "readiness" => Some(Probe::Readiness),
            _ => None,
        }
    }
}

impl Recording {
    fn read(name: &str) -> Self {
        let text = fs::read_to_string(format!("{ROOT}/tests/data/kubelet/{name}.json")).expect("it is there");
        serde_json::from_str(&text).expect("it is a recording")
    }

    fn specs(&self) -> Vec<(Probe, Spec)> {
        let probes = [("startup", Probe::Startup), ("liveness", Probe::Liveness), ("readiness", Probe::Readiness)];
        let spec = |(name, probe)| {
            let yaml = self.spec["probes"].get(name)?;
            let number = |key: &str, default| yaml.get(key).map_or(default, |n| n.as_u64().expect("a number"));
            let seconds = |key, default| Duration::from_secs(number(key, default));
            let count = |key, default| u32::try_from(number(key, default)).expect("a small number");
            let spec = Spec {
                initial_delay: seconds("initialDelaySeconds", 0),
                period: seconds("periodSeconds", 10),
                timeout: seconds("timeoutSeconds", 1),
                failure_threshold: count("failureThreshold", 3),
                success_threshold: count("successThreshold", 1),
            };
            Some((probe, spec))
        };
        probes.into_iter().filter_map(spec).collect()
    }

    /// What the kubelet concluded, with its time: a pod that is no longer ready because its container ended is no event.
    fn concluded(&self) -> Vec<(f64, Event)> {
        let event = |event: &Value| {
            let message = event["message"].as_str().unwrap_or_default();
            let event_of = match event["ready"].as_bool() {
                Some(true) => Some(Event::Ready),
                Some(false) if event.get("state").is_none() && event.get("restarts").is_none() => Some(Event::Unready),
                _ if message.contains("failed startup probe") => Some(Event::Kill(Probe::Startup)),
                _ if message.contains("failed liveness probe") => Some(Event::Kill(Probe::Liveness)),
                _ => None,
            };
            Some((event["t"].as_f64()?, event_of?))
        };
        self.events.iter().filter_map(event).collect()
    }

    fn deleted_at(&self) -> f64 {
        let deleting = self.events.iter().find(|event| event["deleting"] == true).expect("every pod was deleted");
        deleting["t"].as_f64().expect("t is a number")
    }

    /// Initial delays count from here: a container's start, cut to the wall clock's whole second.
    fn counted_from(&self, started: &Started) -> f64 {
        let seconds = self.recorded.get(17..23).and_then(|seconds| seconds.parse::<f64>().ok()).expect("SS.mmm");
        (seconds + started.start).floor() - seconds
    }

    /// Replays one container: what was asked must have been due, and what was not asked, not. Returns the events.
    fn replay(&self, started: &Started) -> Vec<(f64, Event)> {
        let specs = self.specs();
        let mut container = Container::new(specs.iter().copied());
        let born = self.counted_from(started);
        let age = |t: f64| Duration::try_from_secs_f64(t - born).unwrap_or_default();
        let (mut events, mut asked) = (Vec::new(), Vec::new());
        let hits = self.hits.iter().filter(|hit| hit.c == started.n);
        for (hit, probe) in hits.filter_map(|hit| Some((hit, hit.probe()?))) {
            if hit.t > self.deleted_at() {
                container.delete();
            }
            assert!(container.asks(probe, age(hit.t)), "{probe:?} was asked at {}, and would not be", hit.t);
            // A tick before the first question was let pass.
            if !asked.contains(&probe) {
                asked.push(probe);
                let period = specs.iter().find(|(known, _)| *known == probe).expect("it has a spec").1.period;
                let ticks = successors(Some(hit.t), |t| Some(t - period.as_secs_f64())).skip(1);
                for tick in ticks.take_while(|tick| *tick > started.start) {
                    assert!(!container.asks(probe, age(tick)), "{probe:?} was not asked at {tick}, and would be");
                }
            }
            let passed = (200..400).contains(&hit.code.expect("an answer"));
            events.extend(container.take(probe, passed).map(|event| (hit.t, event)));
        }
        container.delete();
        for probe in [Probe::Startup, Probe::Liveness] {
            assert!(!container.asks(probe, age(1e6)));
        }
        events
    }
}

#[test]
fn a_real_kubelets_questions_and_conclusions_are_reproduced() {
    let table = [
        ("initialdelay", 1),
        ("startup-fail", 4),
        ("readiness-flap", 3),
        ("liveness-kill", 8),
        ("terminating-unready", 2),
    ];
    for (name, count) in table {
        let recording = Recording::read(name);
        let replayed: Vec<_> = recording.containers.iter().flat_map(|started| recording.replay(started)).collect();
        let recorded = recording.concluded();
        println!("{name}: {replayed:?}");
        assert_eq!(replayed.len(), count, "{name}: {replayed:?} and {recorded:?}");
        assert_eq!(recorded.len(), count, "{name}: {replayed:?} and {recorded:?}");
        for ((caused, event), (seen, known)) in replayed.iter().zip(&recorded) {
            assert!(
                event == known && (0.0..SOON).contains(&(seen - caused)),
                "{name}: {event:?} at {caused}, {known:?} at {seen}"
            );
        }
    }
}
