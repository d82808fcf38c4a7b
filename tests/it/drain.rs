//! A drain that begins at any instant, under load from clients of every kind: nothing is lost.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::client::{self, Connection, JSON, SAMPLE};
use crate::http2;
use crate::shutdown::report;
use crate::support::{Ended, Patience, Random, Server, Turn};

const SOON: Duration = Duration::from_secs(10);

/// What a client of the drain has seen.
#[derive(Debug, Default)]
struct Seen {
    answered: u64,
    told_to_leave: u64,
    /// What broke, and when.
    lost: Vec<String>,
}

/// The longest that a client keeps a connection waiting; the server closes none that was silent for less than a second.
const LONGEST_PAUSE: u64 = 750;

/// Asks and asks again on a connection that it keeps until it is told to leave, until nobody listens. Where there is
/// a `pause`, it waits as a slow client would before each request, the first of a connection too.
fn keep_asking(server: &Server<'_>, signalled: &AtomicBool, mut pause: Option<Random>) -> Seen {
    let mut seen = Seen::default();
    let request = client::predict_request(JSON, SAMPLE);
    let patience = Patience::new("the port is closed");
    loop {
        let mut connection = match Connection::open(server.address) {
            Ok(connection) => connection,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return seen,
            Err(error) => {
                seen.lost.push(format!("connecting: {error}"));
                return seen;
            }
        };
        for nth in 0.. {
            patience.check();
            if let Some(random) = &mut pause {
                thread::sleep(Duration::from_millis(random.next() % LONGEST_PAUSE));
            }
            let draining = signalled.load(Ordering::Relaxed);
            match connection.ask(&request) {
                Ok(answer) if answer.status == 200 => {
                    seen.answered += 1;
                    if answer.says_close() {
                        seen.told_to_leave += 1;
                        break;
                    }
                }
                Ok(answer) => seen.lost.push(format!("request {nth}, draining {draining}: {}", answer.text())),
                Err(error) => {
                    // Unanswered is lost, on a connection that was used before as on a new one.
                    seen.lost.push(format!("request {nth} of a connection, draining {draining}: {error}"));
                    break;
                }
            }
        }
    }
}

/// What is asked over HTTP/2, where the server says GOAWAY.
#[derive(Clone, Copy)]
enum Question {
    Predict,
    Grpc,
}

/// The same over HTTP/2.
async fn keep_asking_http2(
    server: &Server<'_>,
    question: Question,
    signalled: &AtomicBool,
    mut pause: Option<Random>,
) -> Seen {
    let mut seen = Seen::default();
    let patience = Patience::new("the port is closed");
    let address = match question {
        Question::Predict => server.address,
        Question::Grpc => server.grpc,
    };
    loop {
        let client = match http2::Client::connect(address).await {
            Ok(client) => client,
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return seen,
            Err(error) => {
                seen.lost.push(format!("connecting: {error}"));
                return seen;
            }
        };
        for nth in 0.. {
            patience.check();
            if let Some(random) = &mut pause {
                tokio::time::sleep(Duration::from_millis(random.next() % LONGEST_PAUSE)).await;
            }
            let draining = signalled.load(Ordering::Relaxed);
            let answer = match question {
                Question::Predict => client.predict().await.map(|answer| answer.map(|status| status.to_string())),
                Question::Grpc => client.check_health().await.map(|answer| answer.map(Option::unwrap_or_default)),
            };
            match answer {
                Some(Ok(status)) if ["200", "0"].contains(&status.as_str()) => seen.answered += 1,
                Some(other) => seen.lost.push(format!("request {nth}, draining {draining}: {other:?}")),
                None => break,
            }
        }
        match client.end().await {
            Ok(()) => seen.told_to_leave += 1,
            Err(error) => seen.lost.push(format!("a connection: {error}")),
        }
    }
}

/// One server under load from ten clients over HTTP/1, HTTP/2 and gRPC, half of them slow, told to end after `delay`.
fn drain_under_load(turn: &Turn, delay: Duration) -> (Vec<Seen>, Ended) {
    let server = turn.serve_apart(&["--drain-delay", "300ms"]);
    let signalled = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let (server, signalled) = (&server, &signalled);
        let clients = (0..10).map(|client| {
            let pause = (client % 2 == 0).then_some(Random(client));
            scope.spawn(move || {
                let question = match client {
                    0..4 => return keep_asking(server, signalled, pause),
                    4..8 => Question::Predict,
                    _ => Question::Grpc,
                };
                http2::runtime().block_on(keep_asking_http2(server, question, signalled, pause))
            })
        });
        let clients: Vec<_> = clients.collect();
        // The one wait that is no handshake: the instant is the point.
        thread::sleep(delay);
        signalled.store(true, Ordering::Relaxed);
        server.signal(Signal::TERM);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    (seen, server.end_within(SOON))
}

#[test]
fn a_drain_under_load_loses_no_request() {
    drain_at_random_instants(20, 20);
}

#[test]
#[ignore = "soak: 300 drains take some minutes"]
fn three_hundred_drains_under_load_lose_no_request() {
    drain_at_random_instants(300, 300);
}

fn drain_at_random_instants(first: u64, rounds: usize) {
    let turn = Turn::shared();
    let mut random = Random(first);
    let delays: Vec<_> = (0..rounds).map(|_| Duration::from_micros(random.next() % 400_000)).collect();
    println!("seed {first}: SIGTERM after {delays:?}");
    let round = |delay: &Duration| {
        let (seen, ended) = drain_under_load(&turn, *delay);
        for client in &seen {
            assert!(client.lost.is_empty(), "SIGTERM after {delay:?}: {client:?}\n{}", ended.log.text());
            assert!(client.told_to_leave > 0, "SIGTERM after {delay:?}: {client:?}");
        }
        // A slow one may be told to leave before it has asked.
        assert!(seen.iter().filter(|client| client.answered > 0).count() >= 5, "SIGTERM after {delay:?}: {seen:?}");
        let report = report(&ended);
        assert_eq!(ended.code, Some(0), "{}", ended.log.text());
        assert_eq!((&report["aborted"], &report["refused"], &report["left"]), (&json!(0), &json!(0), &json!(0)));
        assert!(report["completed"].as_u64().unwrap() > 0, "{report}");
    };
    // A round is mostly waiting: four at a time.
    thread::scope(|scope| {
        for share in delays.chunks(rounds.div_ceil(4)) {
            scope.spawn(move || share.iter().for_each(round));
        }
    });
}
