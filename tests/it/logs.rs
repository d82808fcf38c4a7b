//! Logs: of slow requests, changed at run time, and whose reader has stopped reading.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{self, Answer, Connection, JSON, SAMPLE};
use crate::models::posting;
use crate::support::{ANY_PORT, BINARY, PATIENCE, ROOT, Turn, poll, wait};

#[test]
fn a_reader_that_stops_reading_the_log_stalls_neither_probes_nor_the_end() {
    let (_turn, scratch) = (Turn::shared(), TempDir::new().unwrap());
    let termination_log = scratch.path().join("termination-log");
    fs::write(&termination_log, "").unwrap();
    let address = TcpListener::bind(ANY_PORT).unwrap().local_addr().unwrap();
    let mut command = Command::new(BINARY);
    command.args(["serve", "--listen", &address.to_string(), "--grpc-listen", "off", "--log-filter", "trace"]);
    command.args(["--chaos", "batch-delay=30s", "--drain-delay", "0s", "--drain-timeout", "1s"]);
    command.arg("--termination-log").arg(&termination_log).current_dir(ROOT);
    // A pipe, of 64 KiB as the kernel makes them, that nobody reads.
    let mut server = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
    poll("it serves", || client::ask(address, &client::get_request("/ready")).is_ok_and(|answer| answer.status == 200));
    let dropped = |text: &str| {
        text.lines()
            .any(|line| line.strip_prefix("torchpod_log_lines_dropped_total ").is_some_and(|count| count != "0"))
    };
    poll("more lines than can wait", || {
        for _ in 0..100 {
            let asked = Instant::now();
            assert_eq!(client::get(address, "/health").status, 200);
            assert!(asked.elapsed() < Duration::from_secs(1), "a probe took {:?}", asked.elapsed());
        }
        dropped(&client::get(address, "/metrics").text())
    });
    let mut busy = Connection::open(address).unwrap();
    busy.send(&client::predict_request(JSON, SAMPLE)).unwrap();
    poll("it is in flight", || client::get(address, "/metrics").text().contains("torchpod_in_flight_requests 1"));
    kill_process(Pid::from_child(&server), Signal::TERM).unwrap();
    let status = wait(&mut server, Duration::from_secs(4));
    let _ = server.kill();
    assert_eq!(status.expect("it ends in time").code(), Some(1));
    let reason = fs::read_to_string(termination_log).unwrap();
    assert!(reason.contains("the drain missed its deadline"), "{reason}");
}

#[test]
fn slow_requests_are_told_of_with_where_their_time_went_once_a_second_at_most() {
    let turn = Turn::shared();
    let server = turn.serve(&["--chaos", "batch-delay=200ms", "--slow-request", "100ms"]);
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01");
    let mut connection = Connection::open(server.address).unwrap();
    for _ in 0..3 {
        let asked = connection.ask(&posting("/predict", &["X-Request-Id: find-me", &parent], SAMPLE)).unwrap();
        assert_eq!(asked.status, 200);
    }
    let line = server.log.wait_for("a slow request", |line| line["message"] == "slow request");
    for (name, expected) in [
        ("level", "INFO"),
        ("model", "digits@1"),
        ("request_id", "find-me"),
        ("trace_id", trace),
        ("protocol", "predict"),
        ("outcome", "ok"),
    ] {
        assert_eq!(line[name], expected, "{name} of {line}");
    }
    let seconds = |name: &str| line[name].as_f64().unwrap_or_else(|| panic!("{name} of {line} is a number"));
    assert!(seconds("compute") >= 0.2, "{line}");
    let sum: f64 = ["receive", "parse", "queue", "compute", "format"].into_iter().map(seconds).sum();
    assert!((sum - seconds("seconds")).abs() < 1e-6, "its stages are all of it: {line}");
    assert_eq!((&line["rows"], &line["batch_rows"], &line["skipped"]), (&1.into(), &1.into(), &0.into()));
    // 0.6 s of slow requests have passed since then, at least: the line after the next second's tells of them.
    let next =
        |line: &Value| line["message"] == "slow request" && line["skipped"].as_u64().is_some_and(|skipped| skipped > 0);
    poll("the next one", || {
        connection.ask(&posting("/predict", &[], SAMPLE)).unwrap();
        server.log.text().lines().filter_map(|line| serde_json::from_str(line).ok()).any(|line: Value| next(&line))
    });
}

#[test]
fn what_is_quick_or_not_asked_for_is_not_told_of() {
    let turn = Turn::shared();
    for arguments in [&["--slow-request", "20s"][..], &["--chaos", "batch-delay=50ms", "--slow-request", "0s"]] {
        let server = turn.serve(&[arguments, &["--drain-delay", "0s"]].concat());
        assert_eq!(client::predict(server.address, JSON, SAMPLE).status, 200);
        server.signal(Signal::TERM);
        let ended = server.end_within(PATIENCE);
        assert!(!ended.log.text().contains("slow request"), "{}", ended.log.text());
    }
}

fn put(address: SocketAddr, lines: &[&str], filter: &str) -> Answer {
    let length = format!("Content-Length: {}", filter.len());
    client::ask(address, &client::request("PUT", "/log", &[&[&*length], lines].concat(), filter.as_bytes())).unwrap()
}

#[test]
fn what_is_logged_is_changed_while_the_server_runs() {
    let turn = Turn::shared();
    let server = turn.serve(&["--probe-listen", ANY_PORT]);
    let probe = server.probe.unwrap();
    let put = |address, body: &str| put(address, &[], body);
    assert_eq!(client::get(probe, "/log").json()["filter"], "info");
    client::get(server.address, "/v2");
    let answer = put(probe, "info,torchpod::http=debug\n");
    assert_eq!((answer.status, &answer.json()["filter"]), (200, &client::get(server.address, "/log").json()["filter"]));
    client::get(server.address, "/v1/models");
    let line = server.log.wait_for("a request's line", |line| line["uri"] == "/v1/models");
    assert_eq!((&line["message"], &line["status"]), (&"answered".into(), &200.into()), "{line}");
    assert!(!server.log.text().contains("\"/v2\""), "a line before the change: {}", server.log.text());

    assert_eq!(put(probe, "info").status, 200);
    server.log.wait_for("that it is", |line| line["message"] == "the log is changed" && line["filter"] == "info");
    client::get(server.address, "/v2/health/live");
    for (body, says) in [("", "the body is empty"), ("torchpod=loud", "torchpod=loud: ")] {
        let answer = put(probe, body);
        assert!(answer.status == 400 && answer.text().contains(says), "{body:?}: {}", answer.text());
    }
    assert_eq!(client::get(probe, "/log").json()["filter"], "info", "what is wrong changes nothing");
    let refused = put(server.address, "debug");
    assert!(refused.status == 403 && refused.text().contains("--probe-listen"), "{}", refused.text());
    assert_eq!(put(probe, "warn").status, 200);
    server.log.wait_for("the last line", |line| line["message"] == "the log is changed" && line["filter"] == "warn");
    assert!(!server.log.text().contains("/v2/health/live"), "{}", server.log.text());
}

#[test]
fn whoever_brings_the_token_changes_the_log_by_the_main_listener() {
    let turn = Turn::shared();
    let server = turn.start_with(&[("TORCHPOD_CONTROL_TOKEN", "secret")], &[]);
    server.wait_until("serving");
    for (line, status, filter) in
        [("Authorization: Bearer wrong", 401, "info"), ("Authorization: Bearer secret", 200, "warn")]
    {
        let answer = put(server.address, &[line], "warn");
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(client::get(server.address, "/log").json()["filter"], filter);
    }
}
