//! Dependencies as the kubelet sees them: `/ready` follows, `/health` never moves, and no password is told to anybody.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::client::{self, Answer};
use crate::database::{Database, Kind, PASSWORD};
use crate::support::{OverAtEnd, Server, Turn, poll};

const OPTIONS: &str = "interval=200ms,timeout=200ms,failures=2";
/// Interval × failures + timeout.
const NOTICE: Duration = Duration::from_millis(600);
/// A debug build on a loaded machine may be this late.
const SLACK: Duration = Duration::from_millis(900);

const KINDS: [(Kind, &str); 3] = [(Kind::Postgres, "postgres"), (Kind::Mariadb, "mysql"), (Kind::Redis, "redis")];

fn ready(server: &Server<'_>) -> Answer {
    client::get(server.address, "/ready")
}

fn wait_for_readiness(server: &Server<'_>, wanted: u16) {
    poll(&format!("/ready is {wanted}"), || ready(server).status == wanted);
}

/// What `/ready?verbose` tells of one dependency.
fn told(server: &Server<'_>, name: &str) -> Value {
    let verbose = client::get(server.address, "/ready?verbose").json()["verbose"].clone();
    let dependencies = verbose["dependencies"].as_array().expect("a list");
    dependencies.iter().find(|dependency| dependency["name"] == name).expect("it is listed").clone()
}

/// What is told of a dependency once it is down, which must come in time. On a busy machine others may be down, too.
fn down(server: &Server<'_>, name: &str) -> Value {
    let frozen = Instant::now();
    loop {
        let told = told(server, name);
        if told["state"] == "down" {
            return told;
        }
        assert!(frozen.elapsed() < NOTICE + SLACK, "{name} is not missed: {told}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Asks `/health` until told to stop; it must never move.
fn liveness_never_moves(server: &Server<'_>, stop: &AtomicBool) -> usize {
    let mut asked = 0;
    while !stop.load(Ordering::Relaxed) {
        let answer = client::get(server.address, "/health");
        assert_eq!(answer.status, 200, "{}", answer.text());
        asked += 1;
        thread::sleep(Duration::from_millis(5));
    }
    asked
}

#[test]
fn real_databases_that_freeze_and_thaw_move_readiness_in_time_and_nothing_else() {
    let turn = Turn::shared();
    let databases = KINDS.map(|(kind, _)| Database::start(kind, 10));
    let urls = [0, 1, 2].map(|index| format!("{}#{OPTIONS},name={}", databases[index].url(PASSWORD), KINDS[index].1));
    let flags: Vec<&str> = urls.iter().flat_map(|url| ["--dependency", url]).collect();
    let server = turn.serve(&flags);
    wait_for_readiness(&server, 200);
    let stop = AtomicBool::new(false);
    let asked = thread::scope(|scope| {
        let over = OverAtEnd(&stop);
        let liveness = scope.spawn(|| liveness_never_moves(&server, &stop));
        for (database, (_, name)) in databases.iter().zip(KINDS) {
            database.signal(Signal::STOP);
            let told = down(&server, name);
            let body = ready(&server).json();
            assert_eq!((&body["status"], &body["reason"]), (&json!("not_ready"), &json!("dependency_down")));
            assert_eq!(told["required"], json!(true), "{told}");
            assert!(told["error"].as_str().is_some_and(|error| error.contains("no answer within")), "{told}");
            database.signal(Signal::CONT);
            wait_for_readiness(&server, 200);
        }
        drop(over);
        liveness.join().unwrap()
    });
    assert!(asked > 20, "liveness was asked {asked} times");
    let told = told(&server, "redis");
    assert!(told["checked_seconds_ago"].as_f64().unwrap() < 1.0 && told["latency_seconds"].is_f64(), "{told}");
    let metrics = client::get(server.address, "/metrics").text();
    assert!(metrics.contains("torchpod_dependency_up{dependency=\"redis\",required=\"true\"} 1"), "{metrics}");
    assert!(metrics.contains("torchpod_transitions_total{subject=\"redis\",to=\"down\"} 1"), "{metrics}");
    for text in [metrics, server.log.text(), client::get(server.address, "/health?verbose").text()] {
        assert!(!text.contains("s3cr") && text.contains("redis"), "{text}");
    }
}

#[test]
fn a_private_certificate_is_trusted_where_ssl_cert_file_names_it_and_refused_elsewhere() {
    let turn = Turn::shared();
    let database = Database::start(Kind::RedisTls, 10);
    let url = format!("{}#interval=200ms,timeout=200ms,failures=1,name=cache", database.url(PASSWORD));
    let trusting = turn.start_with(&[("SSL_CERT_FILE", &database.certificate())], &["--dependency", &url]);
    wait_for_readiness(&trusting, 200);
    let doubting = turn.serve(&["--dependency", &url]);
    poll("the certificate was refused", || told(&doubting, "cache")["error"].is_string());
    assert_eq!(ready(&doubting).json()["reason"], json!("dependency_down"));
}

#[test]
fn an_optional_dependency_is_told_of_and_a_rehearsed_one_goes_down() {
    let turn = Turn::shared();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}#interval=100ms,timeout=100ms,name=cache", listener.local_addr().unwrap());
    let nowhere = "tcp://127.0.0.1:1#optional,interval=100ms,timeout=100ms,failures=1,name=extra";
    let server = turn.serve(&["--dependency", &url, "--dependency", nowhere]);
    wait_for_readiness(&server, 200);
    poll("the optional one was checked", || told(&server, "extra")["error"].is_string());
    assert_eq!(told(&server, "extra")["state"], json!("down"));
    assert_eq!(ready(&server).status, 200);
    // Down from the start, it never goes down: the log tells of it all the same, once.
    let line = server.log.wait_for("a warning", |line| line["message"] == "no check has passed yet");
    assert_eq!((&line["dependency"], &line["level"]), (&json!("extra"), &json!("WARN")));

    let rehearsed = turn.serve(&["--dependency", &url, "--chaos", "dependency-down=cache"]);
    poll("the rehearsed one was checked", || told(&rehearsed, "cache")["error"].is_string());
    let body = ready(&rehearsed).json();
    assert_eq!((&body["phase"], &body["reason"]), (&json!("serving"), &json!("dependency_down")));
    assert_eq!(client::get(rehearsed.address, "/health").status, 200);
}

#[test]
fn a_config_file_describes_dependencies_and_flags_win() {
    let (turn, scratch) = (Turn::shared(), tempfile::tempdir().unwrap());
    let file = scratch.path().join("torchpod.toml");
    let text = "label = 'from the file'\nmax-queue = 3\n[[dependency]]\nurl = 'tcp://127.0.0.1:1'\noptional = true\nname = 'cache'\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let server = turn.serve(&["--config", file]);
    assert_eq!(client::get(server.address, "/").text(), "from the file\n");
    assert_eq!(told(&server, "cache")["required"], json!(false));
    let server = turn.serve(&["--config", file, "--label", "from the flag"]);
    assert_eq!(client::get(server.address, "/").text(), "from the flag\n");

    std::fs::write(file, "drain-dealy = '1s'\n").unwrap();
    let output = turn.run(&["serve", "--config", file]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(file) && stderr.contains("drain-dealy"), "{stderr}");
}
