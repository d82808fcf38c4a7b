//! From a signal to the end: who is still answered, who is told to leave, and how long it may take.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::client::{self, Connection, JSON, RAW, SAMPLE};
use crate::http2;
use crate::probes::in_flight;
use crate::support::{Ended, Patience, ROOT, Server, Turn, poll};

const SOON: Duration = Duration::from_secs(10);

/// The fields of the drain report.
pub(crate) fn report(ended: &Ended) -> serde_json::Value {
    ended.log.wait_for("drain report", |line| line["message"] == "drain report")
}

/// Connects, asks and connects again, until it cannot connect any more; says why not. Nothing may break before.
fn keep_connecting(address: SocketAddr, answered: &AtomicU64) -> ErrorKind {
    let patience = Patience::new("the port is closed");
    loop {
        patience.check();
        // Less than the second after which a kernel tries an unanswered handshake again.
        let mut connection = match TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
            Ok(stream) => Connection::over(stream),
            Err(error) => return error.kind(),
        };
        connection.ask(&client::get_request("/health")).expect("whoever gets in is answered");
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn newcomers_of_the_last_instant_are_not_let_in_and_then_reset() {
    let turn = Turn::shared();
    for round in 0..5 {
        let server = turn.serve(&["--drain-delay", "0s"]);
        let answered = AtomicU64::new(0);
        let ends = thread::scope(|scope| {
            let clients = (0..16).map(|_| scope.spawn(|| keep_connecting(server.address, &answered)));
            let clients: Vec<_> = clients.collect();
            poll("the clients are under way", || answered.load(Ordering::Relaxed) > 100);
            server.signal(Signal::TERM);
            clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(server.end_within(SOON).code, Some(0));
        // A reset seldom hits a client, so that the test above would rarely see it. This one sees what prevents it: for
        // a moment before the port is closed, handshakes get no answer at all. A client may sleep through that moment.
        assert!(ends.contains(&ErrorKind::TimedOut), "round {round}: {ends:?}");
    }
}

#[test]
fn a_draining_server_is_not_ready_and_serves_newcomers_and_sends_everyone_off() {
    let turn = Turn::shared();
    let server = turn.serve(&["--drain-delay", "30s"]);
    let mut kept = Connection::open(server.address).unwrap();
    assert!(!kept.ask(&client::get_request("/health")).unwrap().says_close());
    server.signal(Signal::TERM);
    server.wait_until("draining");
    assert!(kept.ask(&client::get_request("/health")).unwrap().says_close());
    for (path, status, word) in [("/startup", 200, "ready"), ("/health", 200, "healthy"), ("/ready", 503, "not_ready")]
    {
        let answer = client::get(server.address, path);
        let body = answer.json();
        assert_eq!((answer.status, &body["status"], &body["phase"]), (status, &json!(word), &json!("draining")));
        assert!(answer.says_close());
    }
    let answer = client::predict(server.address, JSON, SAMPLE);
    assert_eq!((answer.status, answer.label(), answer.says_close()), (200, json!("7"), true));
}

#[test]
fn a_server_that_was_asked_to_stays_ready_while_draining() {
    let turn = Turn::shared();
    let server = turn.serve(&["--drain-delay", "30s", "--ready-while-draining"]);
    server.signal(Signal::TERM);
    server.wait_until("draining");
    assert_eq!(client::get(server.address, "/ready").status, 200);
}

/// digits with so much warm-up that a signal is sure to meet it.
fn slow_to_warm(scratch: &TempDir) -> String {
    let digits = scratch.path().join("digits");
    fs::create_dir_all(digits.join("1")).unwrap();
    let shipped = |file: &str| format!("{ROOT}/models/digits/{file}");
    for file in ["1/model.pt", "labels.txt", "golden.json"] {
        fs::copy(shipped(file), digits.join(file)).unwrap();
    }
    let toml = fs::read_to_string(shipped("model.toml")).unwrap();
    let sizes = format!("sizes = [{}]", "32, ".repeat(20_000));
    fs::write(digits.join("model.toml"), toml.replace("sizes = [1, 8, 32]", &sizes)).unwrap();
    scratch.path().to_str().unwrap().to_owned()
}

#[test]
fn either_signal_ends_the_server_cleanly_in_every_phase() {
    let (turn, scratch) = (Turn::shared(), TempDir::new().unwrap());
    let slow_to_warm = slow_to_warm(&scratch);
    let slow_to_load = ["models", "--chaos", "load-delay=30s"];
    for signal in [Signal::TERM, Signal::INT] {
        for (phase, arguments) in [
            ("starting", &slow_to_load[..]), // Or it has just left: then this is loading's first moment.
            ("loading", &slow_to_load),
            ("reading", &slow_to_load),
            ("warming", &[slow_to_warm.as_str()]),
            ("serving", &["models", "--drain-delay", "0s"]),
        ] {
            let server = turn.start(arguments);
            match phase {
                "starting" => {}
                "reading" => {
                    poll("reading", || client::get(server.address, "/startup").text().contains("reading digits@1"));
                }
                _ => server.wait_until(phase),
            }
            server.signal(signal);
            let ended = server.end_within(Duration::from_secs(2));
            assert_eq!(ended.code, Some(0), "{signal:?} while {phase}: {}", ended.log.text());
            let name = if signal == Signal::TERM { "SIGTERM" } else { "SIGINT" };
            ended.log.wait_for(name, |line| line["to"] == "draining" && line["reason"] == name);
            ended.log.wait_for("stopped", |line| line["from"] == "draining" && line["to"] == "stopped");
        }
    }
}

/// Sends one good request that the server will be busy with, on a connection that is handed back.
fn begin_request(server: &Server<'_>) -> Connection {
    let mut connection = Connection::open(server.address).unwrap();
    connection.send(&client::predict_request(JSON, SAMPLE)).unwrap();
    poll("one request in flight", || in_flight(server) == 1);
    connection
}

#[test]
fn a_request_in_flight_at_the_signal_is_answered() {
    let turn = Turn::shared();
    let server = turn.serve(&["--chaos", "batch-delay=1s", "--drain-delay", "0s"]);
    let mut busy = begin_request(&server);
    server.signal(Signal::TERM);
    server.wait_until("draining");
    let answer = busy.answer().unwrap();
    assert_eq!((answer.status, answer.label(), answer.says_close()), (200, json!("7"), true));
    let ended = server.end_within(SOON);
    assert_eq!((ended.code, &report(&ended)["completed"]), (Some(0), &json!(1)));
}

#[test]
fn a_drain_that_misses_its_deadline_says_what_it_broke_off() {
    let (turn, scratch) = (Turn::shared(), TempDir::new().unwrap());
    let termination_log = scratch.path().join("termination-log");
    fs::write(&termination_log, "").unwrap();
    let server = turn.serve(&[
        "--chaos=batch-delay=30s",
        "--drain-delay=0s",
        "--drain-timeout=300ms",
        &format!("--termination-log={}", termination_log.display()),
    ]);
    let mut busy = begin_request(&server);
    server.signal(Signal::TERM);
    let ended = server.end_within(Duration::from_secs(2));
    assert!(busy.answer().is_err());
    assert_eq!((ended.code, &report(&ended)["aborted"]), (Some(1), &json!(1)));
    let reason = fs::read_to_string(&termination_log).unwrap();
    assert!(reason.starts_with("torchpod: the drain missed its deadline") && reason.contains("aborted 1"), "{reason}");
    assert!(reason.contains("--drain-timeout"), "{reason}");
    assert_eq!(ended.log.text().lines().last(), Some(reason.trim_end()));
}

#[test]
fn a_second_signal_ends_a_drain_at_once() {
    let turn = Turn::shared();
    for (busy, code) in [(false, 0), (true, 1)] {
        let server = turn.serve(&["--chaos", "batch-delay=30s", "--drain-delay", "30s"]);
        let _busy = busy.then(|| begin_request(&server));
        server.signal(Signal::TERM);
        server.wait_until("draining");
        server.signal(Signal::INT);
        let ended = server.end_within(Duration::from_secs(1));
        assert_eq!(ended.code, Some(code), "{}", ended.log.text());
        ended.log.wait_for("second signal", |line| line["message"].to_string().contains("second signal"));
    }
}

#[test]
fn idle_connections_do_not_hold_the_drain() {
    let turn = Turn::shared();
    let server = turn.serve(&["--drain-delay", "300ms"]);
    let mut idle: Vec<_> = (0..4).map(|_| Connection::open(server.address).unwrap()).collect();
    for connection in &mut idle {
        assert!(!connection.ask(&client::predict_request(JSON, SAMPLE)).unwrap().says_close());
    }
    server.signal(Signal::TERM);
    let ended = server.end_within(Duration::from_millis(300 + 1500));
    assert_eq!(ended.code, Some(0), "{}", ended.log.text());
    for connection in &mut idle {
        // Closed, not reset: its client may read to the end.
        assert_eq!(connection.answer().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}

#[test]
fn a_client_that_never_finishes_its_head_cannot_hold_the_end() {
    let turn = Turn::shared();
    for said in ["", "POST /predict HTTP/1.1\r\nHost: torchpod\r\n"] {
        let server = turn.serve(&["--drain-delay", "300ms", "--drain-timeout", "1s"]);
        let mut slow = Connection::open(server.address).unwrap();
        slow.send(said.as_bytes()).unwrap();
        server.signal(Signal::TERM);
        let ended = server.end_within(Duration::from_millis(300 + 1000 + 1000));
        // It was never accepted as a request, so none was broken off.
        assert_eq!((ended.code, &report(&ended)["aborted"]), (Some(0), &json!(0)), "after {said:?}");
    }
}

/// Sends a byte of `bytes` in every `pause`, until the server has had enough.
fn trickle(address: SocketAddr, bytes: &[u8], pause: Duration) {
    let mut stream = TcpStream::connect(address).unwrap();
    for byte in bytes {
        if stream.write_all(&[*byte]).is_err() {
            return;
        }
        thread::sleep(pause);
    }
}

/// A head that would go on for minutes.
fn long_head() -> Vec<u8> {
    client::request("POST", "/predict", &[&format!("X: {}", "x".repeat(1000))], b"")
}

#[test]
fn a_client_that_trickles_its_head_cannot_hold_the_end() {
    let turn = Turn::shared();
    let server = turn.serve(&["--drain-delay", "300ms", "--drain-timeout", "20s"]);
    thread::scope(|scope| {
        let before = server.descriptors();
        let address = server.address;
        // Never silent for the half second after which an idle connection is closed.
        scope.spawn(move || trickle(address, &long_head(), Duration::from_millis(300)));
        poll("it is connected", || server.descriptors() > before);
        server.signal(Signal::TERM);
        let ended = server.end_within(Duration::from_millis(300 + 2500));
        assert_eq!((ended.code, &report(&ended)["aborted"]), (Some(0), &json!(0)), "{}", ended.log.text());
    });
}

/// The head of a request whose body would have 1000 bytes, and the first of them.
fn begun() -> Vec<u8> {
    let announced = ["Content-Type: application/json", "Content-Length: 1000"];
    client::request("POST", "/predict", &announced, b"{")
}

/// 60 000 rows, whose answer is more than any socket holds.
fn many_rows() -> Vec<u8> {
    vec![0; 60_000 * 8 * 8 * 4]
}

#[test]
fn clients_that_neither_send_nor_read_on_hold_the_end_for_two_seconds_and_have_left() {
    let turn = Turn::shared();
    let server = turn.serve(&["--drain-delay", "300ms", "--drain-timeout", "20s"]);
    let many_rows = many_rows();
    thread::scope(|scope| {
        let address = server.address;
        scope.spawn(move || trickle(address, &long_head(), Duration::from_millis(300)));
        let mut half = Connection::open(address).unwrap();
        half.send(&begun()).unwrap();
        let mut never_reads = Connection::open(address).unwrap();
        never_reads.send(&client::predict_request(RAW, &many_rows)).unwrap();
        // Its connections go on while this thread waits for the server.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (never_reads_http2, answer) = runtime.block_on(async {
            let client = http2::Client::connect(address).await.unwrap();
            let answer = client.send(many_rows.into()).await.unwrap().unwrap();
            // It hears that there is an answer, and opens no window for it.
            (client, answer.await.unwrap())
        });
        assert_eq!(answer.status(), 200);
        let half_http2 = runtime.block_on(http2::Client::connect(address)).unwrap();
        let half_grpc = runtime.block_on(http2::Client::connect(server.grpc)).unwrap();
        let begun_http2 = runtime.block_on(async {
            let predict = half_http2.begin("/predict", "application/json", b"{").await;
            (predict, half_grpc.begin("/grpc.health.v1.Health/Check", "application/grpc", &[0, 0]).await)
        });
        poll("the other answer is there, too", || computed(&server) == 2);
        poll("four requests to the model are in flight", || in_flight(&server) == 4);
        server.signal(Signal::TERM);
        // 50 ms for the last handshakes, half a second for GOAWAY, and a slow machine.
        let ended = server.end_within(Duration::from_millis(300 + 2000 + 1500));
        let report = report(&ended);
        assert_eq!((ended.code, &report["left"]), (Some(0), &json!(4)), "{}", ended.log.text());
        assert_eq!(&report["aborted"], &json!(0));
        drop((half, never_reads, never_reads_http2, begun_http2));
    });
}

#[test]
fn a_client_that_trickles_its_body_holds_the_end_for_ten_seconds_and_has_left() {
    let turn = Turn::shared();
    let server = turn.serve(&["--drain-delay", "0s", "--drain-timeout", "20s"]);
    thread::scope(|scope| {
        let address = server.address;
        scope.spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(&begun()).unwrap();
            while stream.write_all(b" ").is_ok() {
                thread::sleep(Duration::from_secs(1));
            }
        });
        poll("it is in flight", || in_flight(&server) == 1);
        server.signal(Signal::TERM);
        let ended = server.end_within(Duration::from_secs(10 + 1));
        assert_eq!((ended.code, &report(&ended)["left"]), (Some(0), &json!(1)), "{}", ended.log.text());
        assert!(report(&ended)["seconds"].as_f64().unwrap() > 9.9, "{}", report(&ended));
    });
}

#[test]
fn clients_that_send_and_read_slowly_are_served_to_the_last_byte_by_a_server_that_drains() {
    let turn = Turn::shared();
    let server = turn.serve(&["--drain-delay", "0s", "--drain-timeout", "20s"]);
    let address = server.address;
    let answered = thread::scope(|scope| {
        let (say, drains) = mpsc::channel();
        let sends = scope.spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let request = client::predict_request(JSON, &[SAMPLE, &vec![b' '; 8 << 20]].concat());
            let (before, after) = request.split_at(request.len() / 2);
            stream.write_all(before).unwrap();
            drains.recv().unwrap();
            // Some 2 MB a second.
            for part in after.chunks(200 << 10) {
                stream.write_all(part).unwrap();
                thread::sleep(Duration::from_millis(100));
            }
            Connection::over(stream).answer().map(|answer| answer.status)
        });
        let reads = scope.spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(&client::predict_request(RAW, &many_rows())).unwrap();
            let (mut whole, mut part) = (0, vec![0; 128 << 10]);
            loop {
                match stream.read(&mut part)? {
                    0 => return Ok(whole),
                    bytes => whole += bytes,
                }
                // Too little for the kernel to tell in two seconds, if it held megabytes for us.
                if whole < 1 << 20 {
                    thread::sleep(Duration::from_millis(500));
                }
            }
        });
        poll("one is computed, the other in flight", || computed(&server) == 1 && in_flight(&server) == 2);
        server.signal(Signal::TERM);
        say.send(()).unwrap();
        (sends.join().unwrap(), reads.join().unwrap())
    });
    let (status, bytes): (std::io::Result<u16>, std::io::Result<usize>) = answered;
    assert_eq!(status.unwrap(), 200);
    assert!(bytes.unwrap() > 8 << 20);
    let ended = server.end_within(SOON);
    let report = report(&ended);
    assert_eq!((ended.code, &report["completed"], &report["left"]), (Some(0), &json!(2), &json!(0)), "{report}");
}

/// Requests to the model that have their answer, read or not.
fn computed(server: &Server<'_>) -> usize {
    client::count(
        server.address,
        "torchpod_requests_total{model=\"digits\",version=\"1\",protocol=\"predict\",outcome=\"ok\"}",
    )
}
