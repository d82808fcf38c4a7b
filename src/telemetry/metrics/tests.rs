//! What is recorded is what Prometheus reads.

use super::*;
use crate::lifecycle::{self, Event};

impl<'a> Scrape<'a> {
    /// Of a server with nothing to tell but its state.
    pub fn of(snapshot: &'a Snapshot) -> Self {
        Self {
            snapshot,
            in_flight: 0,
            oldest_batch: Duration::ZERO,
            request_memory: 0,
            serving: Vec::new(),
            versions: Vec::new(),
            stuck_loads: 0,
            probe_answers: Vec::new(),
        }
    }
}

#[test]
fn what_is_recorded_is_rendered() {
    let telemetry = Telemetry::default();
    telemetry.build_info("torch", "libtorch 2.11.0");
    let model = telemetry.model("digits", "1");
    model.request(Protocol::V2, Outcome::Ok, 2, Duration::from_millis(3));
    model.batch(8, Duration::from_millis(2));
    model.cut(CutReason::Shape);
    model.batch_max_rows(16);
    model.waiting(3);
    model.waiting_rows(5);
    model.waiting_bytes(20);
    telemetry.listener("http", || 3);
    let (lifecycle, rx) = lifecycle::channel([]);
    lifecycle.apply(Event::LoadStarted, "a test");
    lifecycle.apply(Event::Raised(Fault::Hung), "a test");
    model.worker_restart();
    let report = dependency::Report {
        name: "tcp://cache:6379".to_owned(),
        required: true,
        age: Some(Duration::from_secs(2)),
        latency: None,
        error: None,
        succeeded: 5,
        failed: 1,
    };
    telemetry.dependency(&report, true);
    telemetry.load(Load::TimedOut);
    let serving = Serving { model: "digits", version: "1", digest: "sha256:00".to_owned(), device: "cpu".to_owned() };
    let scrape = Scrape {
        snapshot: &rx.snapshot(),
        in_flight: 4,
        oldest_batch: Duration::from_secs(3),
        request_memory: 512,
        serving: vec![serving],
        versions: vec![["digits", "1", "READY"]],
        stuck_loads: 1,
        probe_answers: vec![("readiness", "fail", 7)],
    };
    let text = telemetry.render(&scrape);
    for line in [
        "torchpod_build_info{version=\"0.1.0\",abi=\"5\",engine=\"torch\",library=\"libtorch 2.11.0\"} 1",
        "torchpod_phase{phase=\"serving\"} 0",
        "torchpod_phase{phase=\"loading\"} 1",
        "torchpod_fault{fault=\"hung\"} 1",
        "torchpod_fault{fault=\"device_lost\"} 0",
        "torchpod_transitions_total{subject=\"phase\",to=\"loading\"} 1",
        "torchpod_transitions_total{subject=\"hung\",to=\"raised\"} 1",
        "torchpod_oldest_batch_seconds 3",
        "torchpod_worker_restarts_total{model=\"digits\",version=\"1\"} 1",
        "torchpod_dependency_up{dependency=\"tcp://cache:6379\",required=\"true\"} 1",
        "torchpod_dependency_checks_total{dependency=\"tcp://cache:6379\",outcome=\"ok\"} 5",
        "torchpod_dependency_check_age_seconds{dependency=\"tcp://cache:6379\"} 2",
        "torchpod_requests_total{model=\"digits\",version=\"1\",protocol=\"v2\",outcome=\"ok\"} 1",
        "torchpod_rows_total{model=\"digits\",version=\"1\",protocol=\"v2\",outcome=\"ok\"} 2",
        "torchpod_rows_total{model=\"digits\",version=\"1\",protocol=\"grpc\",outcome=\"left\"} 0",
        "torchpod_request_duration_seconds_bucket{model=\"digits\",version=\"1\",le=\"0.005\"} 1",
        "torchpod_batch_rows_bucket{model=\"digits\",version=\"1\",le=\"8\"} 1",
        "torchpod_batch_cuts_total{model=\"digits\",version=\"1\",reason=\"shape\"} 1",
        "torchpod_batch_cuts_total{model=\"digits\",version=\"1\",reason=\"full\"} 0",
        "torchpod_batch_max_rows{model=\"digits\",version=\"1\"} 16",
        "torchpod_queue_requests{model=\"digits\",version=\"1\"} 3",
        "torchpod_queue_rows{model=\"digits\",version=\"1\"} 5",
        "torchpod_queue_bytes{model=\"digits\",version=\"1\"} 20",
        "torchpod_in_flight_requests 4",
        "torchpod_request_memory_bytes 512",
        "torchpod_connections{listener=\"http\"} 3",
        "torchpod_model_info{model=\"digits\",version=\"1\",digest=\"sha256:00\",device=\"cpu\"} 1",
        "torchpod_model_state{model=\"digits\",version=\"1\",state=\"ready\"} 1",
        "torchpod_loads_total{outcome=\"timed_out\"} 1",
        "torchpod_stuck_loads 1",
        "torchpod_probe_answers_total{probe=\"readiness\",verdict=\"fail\"} 7",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}

#[test]
fn a_version_that_left_keeps_its_counts_for_a_while_and_comes_back_to_them() {
    let telemetry = Telemetry::default();
    let (_lifecycle, rx) = lifecycle::channel([]);
    let asked = |version: &str| {
        format!("torchpod_requests_total{{model=\"m\",version=\"{version}\",protocol=\"v2\",outcome=\"ok\"}} ")
    };
    let text = || telemetry.render(&Scrape::of(&rx.snapshot()));
    let stays = telemetry.model("m", "stays");
    for version in 1..=KEPT {
        telemetry.model("m", &version.to_string()).request(Protocol::V2, Outcome::Ok, 2, Duration::ZERO);
    }
    assert!(text().contains(&(asked("1") + "1")));
    telemetry.model("m", "1").request(Protocol::V2, Outcome::Ok, 2, Duration::ZERO);
    assert!(text().contains(&(asked("1") + "2")), "it counts on, in one series: {}", text());
    assert_eq!(text().matches("# TYPE torchpod_requests_total").count(), 1);
    for version in KEPT + 1..=KEPT * 9 {
        telemetry.model("m", &version.to_string()).request(Protocol::V2, Outcome::Ok, 2, Duration::ZERO);
    }
    let text = text();
    assert!(!text.contains(&asked("1")) && text.contains(&asked("stays")));
    let kept = text
        .lines()
        .filter(|line| line.starts_with("torchpod_requests_total") && line.contains("\"v2\",outcome=\"ok\""));
    assert_eq!(kept.count(), KEPT + 2, "those kept, the latest, and the one that stays");
    drop(stays);
}
