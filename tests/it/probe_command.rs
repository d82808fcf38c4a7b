//! `torchpod probe` as a kubelet's exec probe runs it: the exit code, the one line, and the time it takes.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::{BINARY, Server, Turn, poll};

/// An exit code and the start of the line.
type Said = (i32, &'static str);

/// A question, and what is said over HTTP and over gRPC.
type Row = (&'static str, Said, Said);

const LOADING: [Row; 3] = [
    ("startup", (1, "loading: loading, reading digits@1, "), (1, "loading: NOT_SERVING")),
    ("health", (0, "healthy"), (0, "healthy")),
    ("ready", (1, "not_ready: loading, reading digits@1, "), (1, "not_ready: NOT_SERVING")),
];

const SERVING: [Row; 3] = [
    ("startup", (0, "ready"), (0, "ready")),
    ("health", (0, "healthy"), (0, "healthy")),
    ("ready", (0, "ready"), (0, "ready")),
];

const DRAINING: [Row; 3] = [
    ("startup", (0, "ready"), (0, "ready")),
    ("health", (0, "healthy"), (0, "healthy")),
    ("ready", (1, "not_ready: draining"), (1, "not_ready: NOT_SERVING")),
];

/// The exit code and the only line.
fn said(output: &Output) -> (i32, String) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(output.stderr.is_empty() && text.lines().count() == 1 && text.ends_with('\n'), "{output:?}");
    (output.status.code().expect("no signal ended it"), text.trim_end().to_owned())
}

fn probe(turn: &Turn, arguments: &[&str]) -> (i32, String) {
    said(&turn.run(&[&["probe"], arguments].concat()))
}

fn check(turn: &Turn, server: &Server<'_>, rows: [Row; 3]) {
    for (question, over_http, over_grpc) in rows {
        let http = probe(turn, &[question, "--url", &format!("http://{}", server.address)]);
        let grpc = probe(turn, &[question, "--grpc", "--url", &format!("http://{}", server.grpc)]);
        for ((code, line), expected) in [(http, over_http), (grpc, over_grpc)] {
            assert!(code == expected.0 && line.starts_with(expected.1), "{question}: {code}, {line:?}");
        }
    }
}

#[test]
fn each_question_is_answered_in_each_phase_with_a_code_and_a_line() {
    let turn = Turn::shared();
    let loading = turn.start(&["--chaos", "load-delay=30s"]);
    let url = format!("http://{}", loading.address);
    poll("the model is being read", || probe(&turn, &["ready", "--url", &url]).1.contains("reading"));
    let (_, line) = probe(&turn, &["startup", "--url", &url]);
    assert!(line.ends_with(" %") && line.len() < 50, "{line}");
    check(&turn, &loading, LOADING);

    let server = turn.serve(&["--drain-delay", "30s"]);
    check(&turn, &server, SERVING);
    server.signal(Signal::TERM);
    server.wait_until("draining");
    check(&turn, &server, DRAINING);
}

#[test]
fn without_a_url_the_server_of_the_same_environment_is_asked() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    let run = |arguments: &[&str], variable: (&str, String)| {
        let mut command = Command::new(BINARY);
        command.arg("probe").args(arguments).env_clear().env(variable.0, variable.1);
        said(&command.output().unwrap())
    };
    let ready = (0, "ready".to_owned());
    assert_eq!(run(&["ready"], ("TORCHPOD_LISTEN", server.address.to_string())), ready);
    assert_eq!(run(&["ready", "--grpc"], ("TORCHPOD_GRPC_LISTEN", server.grpc.to_string())), ready);
    assert_eq!(run(&["ready"], ("TORCHPOD_PROBE_URL", format!("http://{}", server.address))), ready);
}

/// What a server does with each connection.
pub(crate) type Manners = fn(TcpStream);

/// Takes connections on the port that it returns, for as long as the tests run.
pub(crate) fn ill_mannered(manners: Manners) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::Builder::new().spawn(move || manners(stream)).unwrap();
        }
    };
    thread::Builder::new().name("ill-mannered".to_owned()).spawn(serve).unwrap();
    address
}

/// Takes the request, then says `answer`, and waits for the client to leave.
pub(crate) fn answer(mut stream: TcpStream, answer: &[u8]) {
    let _ = stream.read(&mut [0; 1024]);
    let _ = stream.write_all(answer);
    hold(stream);
}

pub(crate) fn hold(mut stream: TcpStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn a_server_that_cannot_be_asked_is_no_pass_and_costs_no_more_than_the_timeout() {
    let turn = Turn::shared();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = ill_mannered(hold);
    let hanging_up = ill_mannered(drop);
    let garbage = ill_mannered(|stream| answer(stream, b"SSH-2.0-what\nis this\r\n\r\n"));
    let stalling = ill_mannered(|stream| answer(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"));
    let short = ill_mannered(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{");
    });
    let table = [
        (closed, "connection refused", "connection refused"),
        (silent, "no answer within 300ms", "no answer within 300ms"),
        (hanging_up, "connection", ""),
        (garbage, "invalid HTTP version", ""),
        (stalling, "no answer within 300ms", ""),
        (short, "200 OK, and its body: ", ""),
    ];
    for (address, over_http, over_grpc) in table {
        for (flags, why) in [(&[][..], over_http), (&["--grpc"], over_grpc)] {
            let url = format!("http://{address}");
            let started = Instant::now();
            let arguments = [&["ready", "--url", &url, "--timeout", "300ms"], flags].concat();
            let (code, line) = probe(&turn, &arguments);
            println!("{line}");
            assert!(code == 1 && line.starts_with(&format!("cannot ask {url}/")) && line.contains(why), "{line:?}");
            assert!(started.elapsed() < Duration::from_secs(2), "{line:?} took {:?}", started.elapsed());
        }
    }
}

const FOUND: &[u8] = b"HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n";

#[test]
fn the_status_of_any_server_decides_as_it_does_for_the_kubelet() {
    let turn = Turn::shared();
    let url = |address| format!("http://{address}");
    let moved = url(ill_mannered(|stream| answer(stream, FOUND)));
    assert_eq!(probe(&turn, &["health", "--url", &moved]), (0, "HTTP 302 Found".to_owned()));
    let missing = url(ill_mannered(|stream| {
        answer(stream, b"HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\n\r\nno such\npage\n");
    }));
    assert_eq!(probe(&turn, &["health", "--url", &missing]), (1, "HTTP 404 Not Found".to_owned()));
    let endless = url(ill_mannered(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b' '; 1024]).is_ok() {}
    }));
    assert_eq!(probe(&turn, &["health", "--url", &endless]), (0, "HTTP 200 OK".to_owned()));
}

#[test]
fn wrong_usage_has_a_code_of_its_own_and_leaves_the_termination_log_to_the_server() {
    let (turn, scratch) = (Turn::shared(), TempDir::new().unwrap());
    let termination_log = scratch.path().join("termination-log");
    std::fs::write(&termination_log, "").unwrap();
    let log = ["--termination-log", termination_log.to_str().unwrap()];
    for (arguments, says) in [
        (&["bogus"][..], "possible values: startup, health, ready"),
        (&["ready", "--url", "localhost"], "--url localhost: expected a URL such as http://"),
        (&["ready", "--url", "http://127.0.0.1:1/?x=1"], "expected neither a query nor a fragment"),
        (&["ready", "--timeout", "soon"], "--timeout soon: expected a duration"),
        (&[&["ready"][..], &log].concat(), "--termination-log"),
        (&["ready", "http://:hunter2@host"], "unexpected argument 'http://***' found"),
        (&[], "not provided: <QUESTION>; "),
    ] {
        let output = turn.run(&[&["probe"], arguments].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(says) && stderr.contains("`torchpod probe --help`"), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("hunter2"), "{stderr}");
    }
    assert_eq!(std::fs::read_to_string(&termination_log).unwrap(), "");
}

#[test]
fn a_probe_is_over_in_milliseconds() {
    let turn = Turn::alone();
    let server = turn.serve(&[]);
    let (http, grpc) = (format!("http://{}", server.address), format!("http://{}", server.grpc));
    for arguments in [&["ready", "--url", &http][..], &["ready", "--grpc", "--url", &grpc]] {
        let mut took: Vec<_> = (0..20)
            .map(|_| {
                let started = Instant::now();
                assert_eq!(probe(&turn, arguments), (0, "ready".to_owned()));
                started.elapsed()
            })
            .collect();
        took.sort();
        println!("{}: median {:?}, slowest {:?}", arguments.join(" "), took[10], took[19]);
        // A release build needs a few; this is for a debug build on a busy machine.
        assert!(took[10] < Duration::from_millis(100), "{took:?}");
    }
}
