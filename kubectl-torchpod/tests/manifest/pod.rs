//! What a pod promises its kubelet: time to end, probes that fit, numbers that agree with each other.

use std::time::Duration;

use serde_json::Value;

use crate::manifest::{Pod, all_rendered, text, variables};

/// What is left to spare once everything has taken as long as it may.
const SPARE: Duration = Duration::from_secs(5);

/// `30s`, as the manifests write durations.
fn seconds(text: &str) -> Duration {
    let number = text.strip_suffix('s').and_then(|number| number.parse().ok());
    Duration::from_secs(number.unwrap_or_else(|| panic!("{text} is in seconds")))
}

fn grace(pod: &Pod<'_>) -> Duration {
    Duration::from_secs(pod.spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(30))
}

/// A server's duration, or what `torchpod serve` takes for it.
fn drain(server: &Value, name: &str, default: &'static str) -> Duration {
    seconds(variables(server).get(name).copied().unwrap_or(default))
}

/// How long requests still come in and are answered, once the pod is to end.
fn delay(server: &Value) -> Duration {
    let sleep = server["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0);
    Duration::from_secs(sleep) + drain(server, "TORCHPOD_DRAIN_DELAY", "5s")
}

fn time_to_end(server: &Value) -> Duration {
    delay(server) + drain(server, "TORCHPOD_DRAIN_TIMEOUT", "30s")
}

#[test]
fn the_grace_period_covers_the_drain() {
    let mut checked = 0;
    for file in all_rendered() {
        for pod in file.pods() {
            let Some(server) = pod.server() else { continue };
            let (grace, needed) = (grace(&pod), time_to_end(server) + SPARE);
            assert!(grace >= needed, "{}: {}: {grace:?} for {needed:?}", file.name, pod.owner);
            if let Some(told) = variables(server).get("TORCHPOD_TERMINATION_GRACE_SECONDS") {
                assert_eq!(told.parse(), Ok(grace.as_secs()), "{}: {} tells its server", file.name, pod.owner);
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "servers were found");
}

#[test]
fn routes_have_five_seconds_to_change() {
    for file in all_rendered() {
        for pod in file.pods() {
            let Some(server) = pod.server() else { continue };
            assert!(delay(server) >= Duration::from_secs(5), "{}: {}: {:?}", file.name, pod.owner, delay(server));
        }
    }
}

/// A probe's field, or what the kubelet takes for it.
fn field(probe: &Value, name: &str, default: u64) -> u64 {
    probe[name].as_u64().unwrap_or(default)
}

#[test]
fn every_probed_server_has_all_three_probes_and_sixty_seconds_to_load() {
    let mut checked = 0;
    for file in all_rendered() {
        for pod in file.pods() {
            let Some(server) = pod.server().filter(|server| server.get("livenessProbe").is_some()) else { continue };
            let (startup, readiness) = (&server["startupProbe"], &server["readinessProbe"]);
            let budget = field(startup, "periodSeconds", 10) * field(startup, "failureThreshold", 3);
            assert_eq!(budget, 60, "{}: {}", file.name, pod.owner);
            assert!(readiness.is_object(), "{}: {}", file.name, pod.owner);
            for probe in [startup, readiness, &server["livenessProbe"]] {
                assert!(field(probe, "timeoutSeconds", 1) > 1, "{}: a busy server needs more than 1 s", file.name);
            }
            for probe in [startup, &server["livenessProbe"]] {
                assert_eq!(field(probe, "successThreshold", 1), 1, "{}: nothing else is accepted", file.name);
            }
            checked += 1;
        }
    }
    assert!(checked > 10, "probed servers were found");
}

#[test]
fn readiness_never_asks_what_liveness_asks() {
    for file in all_rendered() {
        for pod in file.pods() {
            let Some(server) = pod.server().filter(|server| server.get("livenessProbe").is_some()) else { continue };
            let handler = |probe: &str| {
                let probe = &server[probe];
                ["httpGet", "tcpSocket", "exec", "grpc"].map(|kind| probe[kind].clone())
            };
            assert_ne!(handler("livenessProbe"), handler("readinessProbe"), "{}: {}", file.name, pod.owner);
            assert!(!server["livenessProbe"].to_string().contains("ready"), "{}: {}", file.name, pod.owner);
        }
    }
}

#[test]
fn a_gpu_is_a_limit_and_its_request_is_equal() {
    let mut checked = 0;
    for file in all_rendered() {
        for container in file.pods().iter().flat_map(Pod::containers) {
            let resources = &container["resources"];
            let gpu = |kind: &str| resources[kind].get("nvidia.com/gpu").map(text);
            assert_eq!(gpu("requests"), gpu("limits"), "{}", file.name);
            checked += usize::from(gpu("limits").is_some());
        }
    }
    assert!(checked >= 2, "GPUs were found");
}
