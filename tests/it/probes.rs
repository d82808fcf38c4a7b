//! What the kubelet sees: each probe in each phase, and how soon it is answered whatever the server is doing.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{self, Answer, JSON, SAMPLE};
use crate::support::{OverAtEnd, Patience, Server, Turn, poll};

/// A probe's time to connect, ask and hear.
const SOON: Duration = Duration::from_millis(100);

/// A status and the word in its body.
type Verdict = (u16, &'static str);

/// What a probe must answer before the server is ready, and after.
const PROBES: [(&str, Verdict, Verdict); 3] = [
    ("/startup", (503, "loading"), (200, "ready")),
    ("/health", (200, "healthy"), (200, "healthy")),
    ("/ready", (503, "not_ready"), (200, "ready")),
];

fn check(answer: &Answer, path: &str, expected: Verdict) -> Value {
    let body = answer.json();
    assert_eq!((answer.status, body["status"].as_str()), (expected.0, Some(expected.1)), "{path}: {body}");
    let length: usize = answer.header("content-length").expect("a Content-Length").parse().unwrap();
    assert!(length == answer.body.len() && length < 1024, "{path}: {length} bytes");
    body
}

#[test]
fn probes_tell_a_slow_start_from_its_first_moment_to_its_end() {
    let turn = Turn::shared();
    let started = Instant::now();
    let server = turn.start(&["--chaos", "load-delay=5s"]);
    let mut progress = Vec::new();
    let patience = Patience::new("the server is ready");
    loop {
        patience.check();
        // Readiness is asked last: where it says no, the others were asked before the change.
        let answers = PROBES.map(|(path, ..)| client::get(server.address, path));
        if answers[2].status == 200 {
            break;
        }
        for (answer, (path, before, _)) in answers.iter().zip(PROBES) {
            let body = check(answer, path, before);
            if body["stage"] == "reading digits@1" && path == "/startup" {
                assert_eq!((&body["phase"], &body["reason"]), (&json!("loading"), &json!("loading")));
                progress.push(body["progress"].as_f64().expect("progress is a number"));
            }
        }
    }
    assert!(started.elapsed() >= Duration::from_secs(5), "the rehearsal took {:?}", started.elapsed());
    assert!(progress.is_sorted(), "{progress:?}");
    assert!(progress[0] < 0.2 && progress.last().is_some_and(|last| *last > 0.8 && *last <= 1.0), "{progress:?}");
    progress.dedup();
    assert!(progress.len() > 20, "the progress is fine-grained: {progress:?}");
    for (path, _, after) in PROBES {
        check(&client::get(server.address, path), path, after);
    }
}

#[test]
fn a_request_before_its_time_is_told_the_phase_and_to_come_back() {
    let turn = Turn::shared();
    let server = turn.start(&["--chaos", "load-delay=30s"]);
    server.wait_until("loading");
    let answer = client::predict(server.address, JSON, SAMPLE);
    let body = answer.json();
    assert_eq!((answer.status, &body["error"]["code"]), (503, &json!("not_ready")));
    assert!(body["error"]["message"].as_str().unwrap().contains("loading"), "{body}");
    assert!(answer.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()));
    assert_eq!(client::get(server.address, "/").text(), "torchpod (loading)\n");
}

#[test]
fn a_head_request_to_a_probe_has_the_status_and_no_body() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    let mut connection = client::Connection::open(server.address).unwrap();
    for (path, _, (status, _)) in PROBES {
        // On one connection: a body would be taken for the next answer's head.
        let head = connection.ask(&client::request("HEAD", path, &[], b"")).unwrap();
        let get = connection.ask(&client::get_request(path)).unwrap();
        assert_eq!((head.status, get.status), (status, status));
        assert_eq!(head.header("content-length"), get.header("content-length"));
    }
}

#[test]
fn a_verbose_probe_names_the_models_and_what_led_to_the_phase() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    let verbose = &client::get(server.address, "/health?verbose").json()["verbose"];
    assert_eq!((&verbose["models"][0]["name"], &verbose["models"][0]["version"]), (&json!("digits"), &json!("1")));
    assert_eq!((&verbose["transition"], &verbose["in_flight"]), (&json!("all models are proved and warm"), &json!(0)));
}

#[test]
fn a_probe_that_says_no_is_not_logged_as_a_failure() {
    let turn = Turn::shared();
    let server = turn.start(&["--chaos", "load-delay=30s"]);
    server.wait_until("loading");
    for _ in 0..5 {
        assert_eq!(client::get(server.address, "/ready").status, 503);
    }
    assert!(!server.log.text().contains("ERROR"), "{}", server.log.text());
}

/// The slowest of the probes that are asked, one after the other and each on its own connection, until `done`.
fn slowest(server: &Server<'_>, path: &str, mut done: impl FnMut(&Answer) -> bool) -> Duration {
    let mut slowest = Duration::ZERO;
    let patience = Patience::new("the probes are done");
    loop {
        patience.check();
        let asked = Instant::now();
        let answer = client::get(server.address, path);
        slowest = slowest.max(asked.elapsed());
        if done(&answer) {
            return slowest;
        }
    }
}

#[test]
fn opening_the_engine_stalls_no_probe() {
    let turn = Turn::alone();
    let mut slow = Vec::new();
    for start in 0..8 {
        let server = turn.start(&[]);
        // A thread's first work is what a held loader lock stalls: it comes while the engine is being opened.
        server.wait_until("loading");
        let slowest = slowest(&server, "/ready", |answer| answer.status == 200);
        let opened = server.log.wait_for("engine opened", |line| line["message"] == "engine opened");
        println!("start {start}: slowest probe {slowest:?}, engine opened in {} s", opened["seconds"]);
        if slowest > SOON {
            slow.push(slowest);
        }
    }
    // A busy machine may stall one by itself; the lock would stall most of them, each for as long as the opening takes.
    assert!(slow.len() <= 1, "{} of 8 starts had a slow probe: {slow:?}", slow.len());
}

#[test]
fn a_slow_batch_stalls_no_probe() {
    let turn = Turn::alone();
    let server = turn.serve(&["--chaos", "batch-delay=500ms"]);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..16).map(|_| scope.spawn(|| client::predict(server.address, JSON, SAMPLE))).collect();
        poll("half of them in flight", || in_flight(&server) >= 8);
        let slowest = slowest(&server, "/health", |answer| {
            assert_eq!(answer.status, 200);
            clients.iter().all(thread::ScopedJoinHandle::is_finished)
        });
        println!("slowest probe {slowest:?}");
        assert!(slowest < SOON, "a probe took {slowest:?}");
        for client in clients {
            assert_eq!(client.join().unwrap().status, 200);
        }
    });
}

/// How long each of a thousand probes took, on both listeners in turn, while 64 clients want both cores; sorted.
fn a_thousand_probes_under_saturation(server: &Server<'_>) -> Vec<Duration> {
    const CLIENTS: usize = 64;
    let (busy, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let keep_asking = || {
        let mut connection = client::Connection::open(server.address).unwrap();
        busy.fetch_add(1, Ordering::Relaxed);
        while !done.load(Ordering::Relaxed) {
            assert_eq!(connection.ask(&client::predict_request(JSON, SAMPLE)).unwrap().status, 200);
        }
    };
    let mut times: Vec<Duration> = thread::scope(|scope| {
        let _over = OverAtEnd(&done);
        (0..CLIENTS).for_each(|_| drop(scope.spawn(keep_asking)));
        poll("every client asks", || busy.load(Ordering::Relaxed) == CLIENTS);
        let addresses = [server.address, server.probe.expect("it was asked for")].into_iter().cycle();
        let probes = PROBES.iter().cycle().zip(addresses).take(1000).map(|((path, ..), address)| {
            let asked = Instant::now();
            assert_eq!(client::get(address, path).status, 200, "{path}");
            asked.elapsed()
        });
        probes.collect()
    });
    times.sort();
    times
}

#[test]
fn a_thousand_probes_under_saturation_are_all_answered_in_time() {
    let turn = Turn::alone();
    let server = turn.serve(&["--probe-listen", "127.0.0.1:0"]);
    // The target of 20 ms is `make bench`'s, with a release build and wrk. Here, 64 threads of the test's own want these
    // cores too, in a debug build. A neighbour on the machine may spoil a round; the server would spoil all of them.
    let in_time = (0..3).any(|_| {
        let times = a_thousand_probes_under_saturation(&server);
        println!("p50 {:?}, p99 {:?}, slowest {:?}", times[500], times[990], times[999]);
        times[990] <= SOON && times[999] <= Duration::from_millis(250)
    });
    assert!(in_time, "p99 above {SOON:?}, or one above 250 ms, three times");
}

/// Requests that the server has accepted and not yet answered.
pub(crate) fn in_flight(server: &Server<'_>) -> u64 {
    client::get(server.address, "/health?verbose").json()["verbose"]["in_flight"].as_u64().expect("a number")
}
