//! Recordings of single pods and their probes, held against what the kubelet's rhythm predicts.

use std::time::Duration;

use kubectl_torchpod::rollout::{Fate, Kubelet, Load, Probe, Probes};
use serde_json::Value;

use crate::replay::{file, number, seconds, wall_clock};

/// Where time 0 of a recording lies: at its fraction of a second.
fn begin(json: &Value) -> Duration {
    Duration::from_secs(1_000) + wall_clock(json)
}

fn probe(json: &Value, kind: &str) -> Option<Probe> {
    let value = json["spec"]["probes"].get(kind)?;
    let or = |key: &str, default: i32| u32::try_from(value.get(key).map_or(default, number)).unwrap();
    Some(Probe {
        delay: Duration::from_secs(u64::from(or("initialDelaySeconds", 0))),
        period: Duration::from_secs(u64::from(or("periodSeconds", 10))),
        successes: or("successThreshold", 1),
        failures: or("failureThreshold", 3),
    })
}

/// What becomes of the pod, in seconds since the recording's beginning.
fn fate(name: &str, load: Load) -> (Fate, Value) {
    let json = file(name);
    let begin = begin(&json);
    let events = json["events"].as_array().unwrap();
    let created = events.iter().find(|event| event["ev"] == "created").unwrap();
    let gone = events.iter().find(|event| event["ev"] == "gone").unwrap();
    // An object goes a moment after a listing, and listings are 1.003 s apart.
    let listing = begin + seconds(&gone["t"]).saturating_sub(Duration::from_millis(15));
    // These pods mount a volume.
    let first = begin + seconds(&created["t"]) + Duration::from_millis(320);
    let started = begin + seconds(&json["containers"][0]["start"]);
    let probes = Probes { startup: probe(&json, "startup"), readiness: probe(&json, "readiness") };
    let fate = match (Kubelet { listing }).fate(&probes, first, started, load) {
        Fate::Ready(at) => Fate::Ready(at.saturating_sub(begin)),
        Fate::Killed(at) => Fate::Killed(at.saturating_sub(begin)),
        Fate::Never => Fate::Never,
    };
    (fate, json)
}

fn ready_at(json: &Value) -> f64 {
    let mut events = json["events"].as_array().unwrap().iter();
    let ready = events.find(|event| event["ready"] == true).expect("it gets ready");
    ready["t"].as_f64().unwrap()
}

#[test]
fn a_pod_without_a_startup_probe_is_asked_as_soon_as_it_runs() {
    for name in ["probes-grace-short", "probes-terminating-unready", "probes-liveness-kill"] {
        let (Fate::Ready(at), json) = fate(name, Load::Serves(Duration::ZERO)) else { panic!("{name} gets ready") };
        let off = at.as_secs_f64() - ready_at(&json);
        assert!(off.abs() < 0.06, "{name}: {at:?} for {}", ready_at(&json));
    }
}

#[test]
fn a_delay_and_three_successes_add_up() {
    let (Fate::Ready(at), json) = fate("probes-initialdelay", Load::Serves(Duration::ZERO)) else {
        panic!("it gets ready")
    };
    assert!((at.as_secs_f64() - ready_at(&json)).abs() < 1.0, "{at:?} for {}", ready_at(&json));
}

#[test]
fn a_startup_probe_that_fails_kills_when_it_did() {
    let (fate, json) = fate("probes-startup-fail", Load::Serves(Duration::from_secs(9_999)));
    let Fate::Killed(at) = fate else { panic!("{fate:?}") };
    let exit = json["containers"][0]["exit"].as_f64().unwrap();
    assert!((at.as_secs_f64() - exit).abs() < 0.05, "{at:?} for {exit}");
}
