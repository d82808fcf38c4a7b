//! Clients that connect and do not get on with it, and more of them than there are places.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{self, Answer, Connection, JSON, SAMPLE};
use crate::support::{OverAtEnd, Patience, Server, Turn, poll};

/// The server's patience with a head is 15 s.
const PATIENCE: std::ops::Range<Duration> = Duration::from_secs(13)..Duration::from_secs(20);
/// Longer than that, and shorter than what an idle connection may take.
const IDLE: Duration = Duration::from_secs(17);
/// What nobody who behaves may wait, whatever others do.
const PROMPT: Duration = Duration::from_millis(250);

#[test]
fn a_head_has_fifteen_seconds_and_costs_others_nothing_and_an_answer_or_a_pause_may_take_longer() {
    let turn = Turn::shared();
    let (server, slow) = (turn.serve(&[]), turn.serve(&["--chaos", "batch-delay=17s"]));
    thread::scope(|scope| {
        for said in ["", "P", "PRI * HTTP/2.0\r\n", "POST /predict HTTP/1.1\r\nHost: torchpod\r\n"] {
            let address = server.address;
            scope.spawn(move || is_cut_after(address, said));
        }
        scope.spawn(|| {
            let mut connection = Connection::open(slow.address).unwrap();
            assert_eq!(connection.ask(&client::predict_request(JSON, SAMPLE)).unwrap().status, 200);
        });
        scope.spawn(|| {
            let mut idle = Connection::open(server.address).unwrap();
            assert_eq!(idle.ask(&client::get_request("/health")).unwrap().status, 200);
            thread::sleep(IDLE);
            assert_eq!(idle.ask(&client::get_request("/health")).unwrap().status, 200);
        });
        let times = three_hundred_trickle(&server);
        // Beside other tests, the machine itself may make somebody wait.
        let late = times.iter().filter(|took| **took > PROMPT).count();
        assert!(late * 100 <= times.len(), "{late} of {} answers took more than {PROMPT:?}", times.len());
    });
}

#[test]
#[ignore = "soak: it has the machine alone for 17 s"]
fn three_hundred_trickled_heads_make_nobody_wait() {
    let turn = Turn::alone();
    let times = three_hundred_trickle(&turn.serve(&[]));
    let slowest = times.iter().max().unwrap();
    println!("the slowest of {} answers took {slowest:?}", times.len());
    assert!(*slowest < PROMPT, "an answer took {slowest:?}");
}

fn is_cut_after(address: SocketAddr, said: &str) {
    let opened = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE.end)).unwrap();
    stream.write_all(said.as_bytes()).unwrap();
    let ended = stream.read_to_end(&mut Vec::new());
    let took = opened.elapsed();
    assert!(ended.is_ok() && PATIENCE.contains(&took), "after {said:?}: {ended:?} in {took:?}");
}

/// Three hundred heads at a byte a second are all cut in time. Says how long somebody else waited for answers meanwhile.
fn three_hundred_trickle(server: &Server<'_>) -> Vec<Duration> {
    let before = server.descriptors();
    let all_cut = AtomicBool::new(false);
    let times = thread::scope(|scope| {
        let over = OverAtEnd(&all_cut);
        let other = scope.spawn(|| waits_of_another_client(server.address, &all_cut));
        let opened = Instant::now();
        let mut heads: Vec<_> = (0..300).map(|_| TcpStream::connect(server.address).unwrap()).collect();
        for head in &heads {
            head.set_nonblocking(true).unwrap();
        }
        poll("all are connected", || server.descriptors() >= before + 300);
        for byte in b"POST /predict HTTP/1.1\r\nHost: torchpod\r\n" {
            heads.retain_mut(|head| still_there(head, *byte));
            let took = opened.elapsed();
            assert!(took < PATIENCE.end, "{} of 300 are there after {took:?}", heads.len());
            if heads.is_empty() {
                assert!(PATIENCE.contains(&took), "all were cut after {took:?}");
                break;
            }
            thread::sleep(Duration::from_secs(1));
        }
        drop(over);
        other.join().unwrap()
    });
    assert!(times.len() > 100, "{} answers", times.len());
    // The idle connection of the test is one of those before, or came a moment later.
    poll("no descriptor is left behind", || server.descriptors() <= before + 1);
    times
}

fn still_there(head: &mut TcpStream, byte: u8) -> bool {
    let waits = matches!(head.read(&mut [0; 64]), Err(error) if error.kind() == ErrorKind::WouldBlock);
    waits && head.write_all(&[byte]).is_ok()
}

/// Asks for predictions and probes, each on a connection of its own, until `done`; says how long each took.
fn waits_of_another_client(address: SocketAddr, done: &AtomicBool) -> Vec<Duration> {
    let patience = Patience::new("the heads are cut");
    let mut times = Vec::new();
    while !done.load(Ordering::Relaxed) {
        patience.check();
        for request in [client::predict_request(JSON, SAMPLE), client::get_request("/health")] {
            let begun = Instant::now();
            assert_eq!(client::ask(address, &request).unwrap().status, 200);
            times.push(begun.elapsed());
        }
        thread::sleep(Duration::from_millis(20));
    }
    times
}

#[test]
fn an_idle_connection_is_closed_when_its_time_is_up() {
    let turn = Turn::shared();
    let server = turn.serve(&["--idle-timeout", "2s"]);
    let mut idle = Connection::open(server.address).unwrap();
    for _ in 0..2 {
        assert!(!idle.ask(&client::get_request("/health")).unwrap().says_close());
        thread::sleep(Duration::from_secs(1));
    }
    let last = Instant::now();
    assert_eq!(idle.ask(&client::get_request("/health")).unwrap().status, 200);
    // Closed, not reset.
    assert_eq!(idle.answer().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    let took = last.elapsed();
    assert!(took > Duration::from_millis(1900) && took < Duration::from_secs(4), "it was closed after {took:?}");
}

/// A refusal that tells the client what to do.
fn check_refused(answer: &Answer) {
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &json!("overloaded")));
    assert!(answer.says_close() && answer.header("retry-after").is_some(), "{answer:?}");
}

#[test]
fn above_the_limit_of_connections_probes_are_answered_and_the_rest_is_refused() {
    let turn = Turn::shared();
    let (server, begun) = (turn.serve(&["--max-connections", "4"]), Instant::now());
    let open = || client::count(server.address, "torchpod_connections{listener=\"http\"}");
    // Connections of the start may still be closing.
    poll("only the connection that asks is open", || open() == 1);
    let mut kept = Vec::new();
    poll("four connections have a place", || {
        let mut connection = Connection::open(server.address).unwrap();
        let answer = connection.ask(&client::predict_request(JSON, SAMPLE)).unwrap();
        kept.extend((answer.status == 200).then_some(connection));
        kept.len() == 4
    });
    for path in ["/startup", "/health", "/ready", "/metrics"] {
        let answer = client::get(server.address, path);
        assert!(answer.status == 200 && answer.says_close(), "{path}: {answer:?}");
    }
    poll("five are open", || open() == 5);
    check_refused(&client::predict(server.address, JSON, SAMPLE));
    // The answer comes to those who send a lot before they listen, too.
    check_refused(&client::predict(server.address, JSON, &vec![b' '; 8 << 20]));
    // Those who have a place keep it.
    for connection in &mut kept {
        assert_eq!(connection.ask(&client::predict_request(JSON, SAMPLE)).unwrap().status, 200);
    }
    let warnings = server.log.text().matches("too many connections").count();
    let seldom = 1 + begun.elapsed().as_secs() / 10;
    assert!((1..=seldom).contains(&(warnings as u64)), "{}", server.log.text());
    kept.pop();
    poll("there is a place again", || client::predict(server.address, JSON, SAMPLE).status == 200);
}

#[test]
fn whoever_says_nothing_does_not_keep_the_reserve_from_probes() {
    let turn = Turn::shared();
    let server = turn.serve(&["--max-connections", "1"]);
    let connect = || TcpStream::connect(server.address).unwrap();
    let idle = server.descriptors();
    let _silent: Vec<_> = (0..65).map(|_| connect()).collect();
    poll("the reserve is full", || server.descriptors() == idle + 65);
    let closed = client::ask(server.address, &client::get_request("/health"));
    assert!(closed.is_err(), "{closed:?}");
    let begun = Instant::now();
    poll("a probe is answered", || client::ask(server.address, &client::get_request("/health")).is_ok());
    assert!(begun.elapsed() < Duration::from_secs(3), "after {:?}", begun.elapsed());
}
