//! What breaks while serving, and which probe says so: hangs, panics, a lost device, a stalled runtime.

use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{self, Connection, JSON, RAW, SAMPLE};
use crate::probes::in_flight;
use crate::support::{Server, Turn, poll};

/// What the watchdog may add to the limit that it watches: a second.
const NOTICE: Duration = Duration::from_secs(1);

/// Sends one request and does not wait for its answer.
fn send_one(server: &Server<'_>) -> Connection {
    let mut connection = Connection::open(server.address).unwrap();
    connection.send(&client::predict_request(JSON, SAMPLE)).unwrap();
    connection
}

fn wait_for_fault(server: &Server<'_>, fault: &str, to: &str) -> Value {
    server.log.wait_for(fault, |line| line["subject"] == fault && line["to"] == to)
}

fn liveness(address: SocketAddr) -> (u16, Value) {
    let answer = client::get(address, "/health");
    (answer.status, answer.json()["reason"].clone())
}

#[test]
fn a_model_that_hangs_for_ever_is_found_and_stalls_nobody_else() {
    let turn = Turn::alone();
    let server = turn.serve(&[
        "--chaos",
        "hang-after=0s",
        "--stall-limit",
        "1s",
        "--drain-delay",
        "0s",
        "--drain-timeout",
        "1s",
    ]);
    let sent = Instant::now();
    let _hung = send_one(&server);
    poll("the hang is found", || client::get(server.address, "/health").status == 503);
    let found = sent.elapsed();
    assert!(found > Duration::from_secs(1) && found < Duration::from_secs(1) + NOTICE, "found after {found:?}");
    assert_eq!(liveness(server.address), (503, json!("hung")));
    let ready = client::get(server.address, "/ready");
    assert_eq!((ready.status, &ready.json()["reason"]), (503, &json!("hung")));
    for path in ["/startup", "/metrics"] {
        let mut times = Vec::new();
        for _ in 0..50 {
            let asked = Instant::now();
            assert_eq!(client::get(server.address, path).status, 200);
            times.push(asked.elapsed());
        }
        times.sort();
        println!("{path} while the model hangs: median {:?}, slowest {:?}", times[25], times[49]);
        assert!(times[45] <= Duration::from_millis(20), "{path}: {times:?}");
    }
    server.signal(Signal::TERM);
    let ended = server.end_within(Duration::from_secs(3));
    assert_eq!(ended.code, Some(1), "the hung request was broken off: {}", ended.log.text());
}

#[test]
fn a_batch_that_returns_late_was_not_hung_for_ever() {
    let turn = Turn::shared();
    let server = turn.serve(&["--chaos", "batch-delay=1500ms", "--stall-limit", "500ms"]);
    let mut slow = send_one(&server);
    wait_for_fault(&server, "hung", "raised");
    assert_eq!(liveness(server.address), (503, json!("hung")));
    assert_eq!(slow.answer().unwrap().status, 200);
    wait_for_fault(&server, "hung", "clear");
    assert_eq!(liveness(server.address), (200, Value::Null));
}

#[test]
fn a_rehearsed_share_of_requests_fails_and_no_more() {
    let turn = Turn::shared();
    let server = turn.serve(&["--chaos", "request-errors=25%"]);
    let answers: Vec<_> = (0..100).map(|_| client::predict(server.address, JSON, SAMPLE).status).collect();
    assert_eq!(answers.iter().filter(|status| **status == 500).count(), 25, "{answers:?}");
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 75, "{answers:?}");
}

#[test]
fn a_version_that_is_rehearsed_to_be_slow_in_a_crowd_is_quick_alone() {
    let turn = Turn::shared();
    let server = turn.serve(&["--chaos", "batch-delay=100ms,crowd-delay=3s"]);
    let asked = Instant::now();
    assert_eq!(send_one(&server).answer().unwrap().status, 200);
    assert!(asked.elapsed() < Duration::from_secs(3), "alone: {:?}", asked.elapsed());
    let asked = Instant::now();
    let mut crowd: Vec<_> = (0..3).map(|_| send_one(&server)).collect();
    assert!(crowd.iter_mut().all(|one| one.answer().unwrap().status == 200));
    assert!(asked.elapsed() > Duration::from_secs(3), "in a crowd: {:?}", asked.elapsed());
}

#[test]
fn a_long_request_that_makes_progress_is_busy_and_not_hung() {
    const ROW: usize = 64 * 4;
    let turn = Turn::shared();
    let server = turn.serve(&["--stall-limit", "300ms"]);
    let body = vec![0; 200_000 * ROW];
    let asked = Instant::now();
    assert_eq!(client::predict(server.address, RAW, &body).status, 200);
    assert!(asked.elapsed() > Duration::from_millis(600), "too quick to tell: {:?}", asked.elapsed());
    assert!(!server.log.text().contains("hung"), "{}", server.log.text());
}

#[test]
fn a_process_that_was_stopped_as_a_whole_was_not_hung() {
    let turn = Turn::shared();
    let server = turn.serve(&["--chaos", "batch-delay=2s", "--stall-limit", "2500ms"]);
    let mut slow = send_one(&server);
    poll("the batch is cut", || {
        !client::get(server.address, "/metrics").text().contains("torchpod_oldest_batch_seconds 0\n")
    });
    server.signal(Signal::STOP);
    // The time is the point: longer than the stall limit, with a batch in the air.
    thread::sleep(Duration::from_secs(4));
    server.signal(Signal::CONT);
    assert_eq!(slow.answer().unwrap().status, 200);
    assert!(!server.log.text().contains("hung"), "{}", server.log.text());
}

#[test]
fn a_worker_that_panics_costs_its_callers_one_answer_and_no_probe_anything() {
    let turn = Turn::shared();
    let server = turn.serve(&["--chaos", "worker-panic-after=0s"]);
    let first = client::predict(server.address, JSON, SAMPLE);
    assert_eq!((first.status, &first.json()["error"]["code"]), (500, &json!("model_failed")));
    for _ in 0..3 {
        let next = client::predict(server.address, JSON, SAMPLE);
        assert_eq!((next.status, next.label()), (200, json!("7")));
    }
    for path in ["/startup", "/health", "/ready"] {
        assert_eq!(client::get(server.address, path).status, 200, "{path}");
    }
    let metrics = client::get(server.address, "/metrics").text();
    assert!(metrics.contains("torchpod_worker_restarts_total{model=\"digits\",version=\"1\"} 1"), "{metrics}");
    // In the log's own format, not as the standard library prints it.
    server.log.wait_for("the panic", |line| line["message"] == "panic" && line["reason"] == "rehearsed");
}

/// Arguments that leave the reason in a file, and that file.
fn with_termination_log(scratch: &TempDir) -> (String, std::path::PathBuf) {
    let file = scratch.path().join("termination-log");
    fs::write(&file, "").unwrap();
    (format!("--termination-log={}", file.display()), file)
}

#[test]
fn a_worker_that_keeps_panicking_ends_the_process_with_70() {
    let (turn, scratch) = (Turn::shared(), TempDir::new().unwrap());
    let (flag, termination_log) = with_termination_log(&scratch);
    let server = turn.serve(&["--chaos=worker-panic-after=0s,worker-panics=99", &flag]);
    for _ in 0..6 {
        assert_eq!(client::predict(server.address, JSON, SAMPLE).status, 500);
    }
    let ended = server.end_within(Duration::from_secs(6));
    assert_eq!(ended.code, Some(70), "{}", ended.log.text());
    let reason = fs::read_to_string(termination_log).unwrap();
    assert!(reason.contains("worker_lost") && reason.contains("digits@1") && reason.lines().count() == 1, "{reason}");
}

#[test]
fn a_lost_device_ends_the_process_with_70_once_everyone_in_flight_is_answered() {
    let (turn, scratch) = (Turn::shared(), TempDir::new().unwrap());
    let (flag, termination_log) = with_termination_log(&scratch);
    // The delay lets them all come in: some are in the batch that loses the device, the others wait behind it.
    let server = turn.serve(&["--chaos=device-lost-after=0s,batch-delay=2s", &flag]);
    let statuses: Vec<_> = thread::scope(|scope| {
        let clients = (0..40).map(|_| scope.spawn(|| client::predict(server.address, JSON, SAMPLE).status));
        clients.collect::<Vec<_>>().into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(statuses.contains(&500) && statuses.iter().all(|status| matches!(status, 500 | 503)), "{statuses:?}");
    let ended = server.end_within(Duration::from_secs(6));
    assert_eq!(ended.code, Some(70), "{}", ended.log.text());
    let reason = fs::read_to_string(termination_log).unwrap();
    assert!(reason.starts_with("torchpod: fatal fault device_lost: digits@1: "), "{reason}");
    assert!(reason.contains("CUDA error") && reason.lines().count() == 1, "{reason}");
}

#[test]
fn a_lost_device_ends_a_process_whose_runtime_is_stuck_with_70_all_the_same() {
    let (turn, scratch) = (Turn::shared(), TempDir::new().unwrap());
    let (flag, termination_log) = with_termination_log(&scratch);
    // The stall comes while the batch is in the air that loses the device.
    let server = turn.serve(&["--chaos=device-lost-after=0s,batch-delay=4s,runtime-stall-after=2s", &flag]);
    let _unanswered = send_one(&server);
    let ended = server.end_within(Duration::from_secs(12));
    assert_eq!(ended.code, Some(70), "{}", ended.log.text());
    assert!(ended.log.text().contains("runtime stalls"), "{}", ended.log.text());
    let reason = fs::read_to_string(termination_log).unwrap();
    assert!(reason.starts_with("torchpod: fatal fault device_lost: "), "{reason}");
}

#[test]
fn a_server_that_was_told_to_stay_answers_and_is_unhealthy() {
    let turn = Turn::shared();
    let server = turn.serve(&["--chaos", "device-lost-after=0s", "--on-fatal", "stay", "--drain-delay", "0s"]);
    assert_eq!(client::predict(server.address, JSON, SAMPLE).status, 500);
    wait_for_fault(&server, "device_lost", "raised");
    assert_eq!(liveness(server.address), (503, json!("device_lost")));
    assert_eq!(client::get(server.address, "/startup").status, 200);
    let refused = client::predict(server.address, JSON, SAMPLE);
    assert!(refused.status == 503 && refused.header("retry-after").is_some(), "{refused:?}");
    server.signal(Signal::TERM);
    assert_eq!(server.end_within(Duration::from_secs(3)).code, Some(0));
}

#[test]
fn a_stalled_runtime_is_told_by_the_probe_listener_and_does_not_outlive_its_drain() {
    let turn = Turn::alone();
    let server = turn.serve(&[
        "--chaos=runtime-stall-after=0s",
        "--probe-listen=127.0.0.1:0",
        "--drain-delay=0s",
        "--drain-timeout=1s",
    ]);
    let probe = server.probe.expect("--probe-listen was given");
    server.log.wait_for("the stall", |line| line["message"].to_string().contains("runtime stalls"));
    let stalled = Instant::now();
    assert_eq!(liveness(probe), (200, Value::Null));
    poll("the stall is found", || client::get(probe, "/health").status == 503);
    let found = stalled.elapsed();
    assert!(found < Duration::from_secs(5) + NOTICE, "found after {found:?}");
    assert_eq!(liveness(probe), (503, json!("runtime_stalled")));
    assert_eq!((client::get(probe, "/ready").status, client::get(probe, "/startup").status), (503, 200));
    assert!(client::get(probe, "/metrics").text().contains("torchpod_fault{fault=\"runtime_stalled\"} 1"));
    server.signal(Signal::TERM);
    let ended = server.end_within(Duration::from_secs(2));
    assert_eq!(ended.code, Some(1), "{}", ended.log.text());
    assert!(ended.log.text().contains("the async runtime did not turn"), "{}", ended.log.text());
}

#[test]
fn the_probe_listener_has_the_probes_and_the_metrics_and_nothing_else() {
    let turn = Turn::shared();
    let server = turn.serve(&["--probe-listen", "127.0.0.1:0", "--drain-delay", "30s"]);
    let probe = server.probe.expect("--probe-listen was given");
    for path in ["/startup", "/health", "/ready", "/metrics"] {
        assert_eq!(client::get(probe, path).status, 200, "{path}");
    }
    assert_eq!(client::predict(probe, JSON, SAMPLE).status, 404);
    server.signal(Signal::TERM);
    server.wait_until("draining");
    assert_eq!((client::get(probe, "/ready").status, client::get(probe, "/health").status), (503, 200));
}

#[test]
fn what_has_happened_is_told_by_a_verbose_probe_and_counted() {
    let turn = Turn::shared();
    let server = turn.serve(&["--chaos", "batch-delay=1s", "--stall-limit", "300ms"]);
    assert_eq!(client::predict(server.address, JSON, SAMPLE).status, 200);
    wait_for_fault(&server, "hung", "clear");
    assert_eq!(in_flight(&server), 0);
    let verbose = client::get(server.address, "/health?verbose").json()["verbose"].clone();
    let transitions: Vec<_> = verbose["transitions"].as_array().unwrap().iter().rev().collect();
    let told: Vec<_> = transitions.iter().map(|line| (line["subject"].as_str(), line["to"].as_str())).collect();
    let phase = |to| (Some("phase"), Some(to));
    let hung = |to| (Some("hung"), Some(to));
    assert_eq!(told, [phase("loading"), phase("warming"), phase("serving"), hung("raised"), hung("clear")]);
    let last = transitions[4];
    assert!(last["seconds"].as_f64().unwrap() > 0.4, "how long it was hung: {last}");
    assert!(last["at"].as_str().unwrap().ends_with('Z') && last["reason"].as_str().is_some(), "{last}");
    let metrics = client::get(server.address, "/metrics").text();
    for line in [
        "torchpod_transitions_total{subject=\"hung\",to=\"raised\"} 1",
        "torchpod_transitions_total{subject=\"phase\",to=\"serving\"} 1",
        "torchpod_fault{fault=\"hung\"} 0",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}
