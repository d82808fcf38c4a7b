//! What requests may hold together: clients that send much, slowly, cost the others nothing.

use std::time::Duration;

use crate::client::{self, Connection, JSON, RAW, SAMPLE};
use crate::models::Repository;
use crate::support::{Server, Turn, poll};

const MIB: usize = 1 << 20;

/// Bytes that `/metrics` says requests hold.
pub(crate) fn held(server: &Server) -> usize {
    client::count(server.address, "torchpod_request_memory_bytes")
}

/// The head of a request that announces `length` bytes, and its first `sent` bytes.
fn half_sent(server: &Server, length: usize, sent: usize) -> Connection {
    let mut connection = Connection::open(server.address).unwrap();
    let head = [&*format!("Content-Type: {RAW}"), &*format!("Content-Length: {length}")];
    connection.send(&client::request("POST", "/predict", &head, b"")).unwrap();
    // A server that refuses may stop reading before all is sent.
    let _ = connection.send(&vec![0; sent]);
    connection
}

#[test]
fn half_sent_bodies_hold_no_more_than_they_may_and_everybody_else_is_served_again_when_they_are_gone() {
    let turn = Turn::shared();
    let server = turn.serve(&["--request-memory", "64MiB"]);
    let before = server.resident();
    let slow: Vec<_> = (0..20).map(|_| half_sent(&server, 16 * MIB, 6 * MIB)).collect();
    let mut refused = 0;
    for mut connection in slow.into_iter().rev().take(8) {
        let answer = connection.answer().expect("whoever came too late is told so");
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.text());
        let error = &answer.json()["error"];
        assert_eq!(error["code"], "overloaded");
        assert!(error["message"].as_str().unwrap().contains("67108864"), "{error}");
        refused += 1;
    }
    assert_eq!(refused, 8);
    assert_eq!(client::get(server.address, "/ready").status, 200);
    let growth = server.resident().saturating_sub(before);
    assert!(growth < 160 * MIB, "resident memory grew by {} MiB", growth / MIB);
    poll("all memory is given back", || held(&server) == 0);
    assert_eq!(client::predict(server.address, JSON, SAMPLE).label(), "7");
}

#[test]
fn clients_that_announce_much_and_send_nothing_hold_nothing() {
    let turn = Turn::shared();
    let server = turn.serve(&["--request-memory", "64MiB"]);
    let silent: Vec<_> = (0..50).map(|_| half_sent(&server, 60 * MIB, 1000)).collect();
    poll("all heads are read", || held(&server) >= 50_000);
    assert!(held(&server) < 5 * MIB, "{}", held(&server));
    assert_eq!(client::predict(server.address, JSON, SAMPLE).label(), "7");
    drop(silent);
    poll("all memory is given back", || held(&server) == 0);
}

#[test]
fn a_body_that_could_never_fit_is_too_large_rather_than_one_too_many() {
    let turn = Turn::shared();
    let server = turn.serve(&["--request-memory", "2MiB"]);
    let answer = client::predict(server.address, RAW, &vec![0; 3 * MIB]);
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (413, &"too_large".into()));
    assert!(answer.text().contains("2097152"), "{}", answer.text());
    // A text that fits, whose tensor does not fit beside it: 4 bytes for every 2 of these.
    let row = format!("[{}]", vec![format!("[{}]", ["1"; 8].join(",")); 8].join(","));
    let body = format!("{{\"inputs\":[{}]}}", vec![row; 6000].join(","));
    let answer = client::predict(server.address, JSON, body.as_bytes());
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (413, &"too_large".into()), "{}", answer.text());
    assert!(answer.text().contains("body and tensors need"), "{}", answer.text());
}

/// Aligned blocks and shrunken ones can leave scraps that malloc joins only when some large block comes or goes: all at once, while
/// everyone waits. Until then, memory grows.
#[test]
fn requests_that_come_one_by_one_leave_no_scraps_of_memory() {
    const REQUESTS: usize = 10_000;
    let turn = Turn::shared();
    let repository = Repository::odd(&["list"]);
    let server = turn.serve(&[repository.path()]);
    let mut connection = Connection::open(server.address).unwrap();
    let request = client::predict_request(JSON, br#"{"inputs": [[1, 2, 3]]}"#);
    let mut ask = |count| (0..count).for_each(|_| assert_eq!(connection.ask(&request).unwrap().status, 200));
    ask(REQUESTS / 10);
    let before = server.resident();
    ask(REQUESTS);
    let growth = server.resident().saturating_sub(before);
    assert!(growth < MIB, "{REQUESTS} requests left {} KiB", growth >> 10);
}

#[test]
fn a_client_says_how_long_its_request_may_take() {
    let turn = Turn::shared();
    let server = turn.serve(&["--chaos", "batch-delay=2s"]);
    let request = |line: &str| {
        let head = ["Content-Type: application/json", line, &*format!("Content-Length: {}", SAMPLE.len())];
        client::request("POST", "/predict", &head, SAMPLE)
    };
    for name in ["X-Request-Timeout-Ms", "x-envoy-expected-rq-timeout-ms"] {
        let started = std::time::Instant::now();
        let answer = client::ask(server.address, &request(&format!("{name}: 150"))).unwrap();
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (504, &"deadline_exceeded".into()));
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
    let late = "torchpod_requests_total{model=\"digits\",version=\"1\",protocol=\"predict\",outcome=\"deadline\"}";
    assert_eq!(client::metric(server.address, late), Some(2.0));
    let answer = client::ask(server.address, &request("X-Request-Timeout-Ms: soon")).unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("x-request-timeout-ms: got \\\"soon\\\""), "{}", answer.text());
}
