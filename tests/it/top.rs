//! `torchpod top`: the real binary looks at real servers, once and in a terminal.

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use torchpod::top::State;

use crate::client::{self, JSON, SAMPLE};
use crate::probe_command::{hold, ill_mannered};
use crate::support::{ANY_PORT, BINARY, Server, Turn, poll};
use crate::terminal::Terminal;

fn once(turn: &Turn, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let Output { status, stdout, stderr } = turn.run(&[&["top", "--once", "--interval", "200ms"], arguments].concat());
    assert!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    let lines = String::from_utf8(stdout).unwrap().lines().map(str::to_owned).collect();
    (status.code(), lines)
}

fn cells(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

fn top(arguments: &[&str], size: (u16, u16), no_color: &str) -> Terminal {
    let mut command = Command::new(BINARY);
    command.arg("top").args(["--interval", "200ms"]).args(arguments);
    command.env("TERM", "xterm-256color").env("NO_COLOR", no_color);
    Terminal::run(&command, size)
}

/// Where nobody listens.
fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn told(address: SocketAddr) -> serde_json::Value {
    let answer = client::get(address, "/console/state");
    assert_eq!(answer.status, 200);
    answer.json()
}

#[test]
fn all_that_a_server_tells_is_read() {
    let turn = Turn::shared();
    let dependency = format!("tcp://{}#name=cache", nowhere());
    let server = turn.start(&["--chaos", "load-delay=2s", "--drain-delay", "30s", "--dependency", &dependency]);
    let compare = || {
        let told = told(server.address);
        let read: State = serde_json::from_value(told.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), told, "src/top/state.rs has every field, by its name and form");
        told
    };
    let mut reads = false;
    poll("a stage is told", || {
        reads |= compare()["probes"][0]["body"]["stage"].is_string();
        reads
    });
    server.wait_until("serving");
    assert_eq!(client::predict(server.address, JSON, SAMPLE).status, 200);
    poll("the request is counted, and the dependency checked", || {
        let told = compare();
        told["models"][0]["figures"]["ok"] == 1 && told["dependencies"][0]["error"].is_string()
    });
    server.signal(Signal::TERM);
    server.wait_until("draining");
    assert_eq!(compare()["phase"], "draining");
}

#[test]
fn once_prints_a_line_for_each_server_and_fails_if_one_does_not_answer() {
    let turn = Turn::shared();
    let [one, other] = [turn.serve(&["--label", "one"]), turn.serve(&["--label", "other"])];
    let [first, second] = [&one, &other].map(|server| format!("http://{}", server.address));
    let (code, lines) = once(&turn, &[&first, &second]);
    assert_eq!((code, lines.len()), (Some(0), 3), "{lines:?}");
    assert_eq!(cells(&lines[0])[..4], ["REPLICA", "PHASE", "PROBES", "REQ/S"]);
    for (line, server) in lines[1..].iter().zip(sorted(&one, &other)) {
        let cells = cells(line);
        assert_eq!((cells[0], cells[2], cells.last()), (&*server.to_string(), "✔ ✔ ✔", Some(&"digits@1")));
        assert!(cells[1].starts_with("serving "), "{line}");
    }

    one.signal(Signal::KILL);
    one.end_within(Duration::from_secs(30));
    let (code, lines) = once(&turn, &[&first, &second]);
    assert_eq!((code, lines.len()), (Some(1), 3), "{lines:?}");
    let silent = cells(&lines[1]);
    assert_eq!((silent[0], silent.last()), (first.trim_start_matches("http://"), Some(&"connection refused")));
    assert!(silent[1].starts_with("no answer ") && cells(&lines[2])[1].starts_with("serving "), "{lines:?}");
}

fn sorted(one: &Server, other: &Server) -> [SocketAddr; 2] {
    let mut addresses = [one.address, other.address];
    addresses.sort();
    addresses
}

#[test]
fn once_counts_what_happens_between_its_two_looks() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    let address = server.address.to_string();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = crate::support::OverAtEnd(&over);
        scope.spawn(|| {
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                client::predict(server.address, JSON, SAMPLE);
            }
        });
        poll("requests are seen", || {
            let (code, lines) = once(&turn, &[&address]);
            assert_eq!(code, Some(0));
            let cells = cells(&lines[1]);
            let rate: f64 = cells[3].replace(',', "").parse().unwrap();
            rate > 0.0 && cells[4] == "0" && (cells[6].ends_with(" ms") || cells[6].ends_with(" s"))
        });
    });
}

#[test]
fn whoever_hangs_or_is_no_torchpod_says_so_and_keeps_nobody_waiting() {
    let turn = Turn::shared();
    let server = turn.serve(&["--no-console", "--probe-listen", ANY_PORT]);
    let silent = ill_mannered(hold).to_string();
    let (main, grpc) = (server.address.to_string(), server.grpc.to_string());
    let probe = server.probe.expect("it was asked for").to_string();
    let started = Instant::now();
    let (code, lines) = once(&turn, &["--timeout", "300ms", &silent, &main, &grpc, &probe, "no-such-host.invalid:1"]);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    assert_eq!(code, Some(1));
    let said = |name: &str| {
        let line = lines.iter().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {lines:?}"));
        (*cells(line).last().unwrap()).to_owned()
    };
    assert_eq!(said(&silent), "no answer within 300ms");
    assert_eq!(said(&main), "404: no torchpod, or its console is off (--no-console); ask the port of --probe-listen");
    assert_eq!(said(&probe), "digits@1", "the probe listener tells what the console would");
    assert!(said(&grpc).starts_with("415") || said(&grpc).contains("HTTP"), "{}", said(&grpc));
    assert!(said("no-such-host.invalid:1").starts_with("cannot resolve no-such-host.invalid: "));
}

#[test]
fn wrong_usage_has_a_code_of_its_own() {
    let turn = Turn::shared();
    for (arguments, says) in [
        (&["https://host"][..], "URL https://host: expected http://"),
        (&["http://me:hunter2@host"], "URL: expected no credentials"),
        (&["host", "--interval", "soon"], "--interval soon: expected a duration"),
        (&["--no-such-flag"], "`torchpod top --help` lists the flags"),
    ] {
        let output = turn.run(&[&["top"], arguments].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(says) && !stderr.contains("hunter2"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn one_server_is_seen_to_load_to_serve_to_drain_and_to_end() {
    let turn = Turn::shared();
    let server = turn.start(&["--chaos", "load-delay=3s", "--drain-delay", "2s"]);
    let mut terminal = top(&[&server.address.to_string()], (80, 24), "");
    terminal.wait_for(&["loading for", "reading digits@1", "✘ /startup", "503 loading", "✔ /health", "none yet"]);
    assert!(terminal.is_taken());
    let digest = crate::models::digest_of_digits();
    terminal.wait_for(&["serving for", "every model is loaded", "✔ /ready", &digest[..19], "warming → serving"]);
    assert_eq!(client::predict(server.address, JSON, SAMPLE).status, 200);
    terminal.wait_for(&["1 request, 1 row in 1 batch"]);

    server.signal(Signal::TERM);
    terminal.wait_for(&["Draining for", "after SIGTERM", "✘ /ready", "not_ready: draining", "serving → draining"]);
    server.end_within(Duration::from_mins(1));
    let last =
        terminal.wait_for(&["No answer for", "connection refused", "It was draining", "ended as it was asked to"]);
    assert!(last.contains("Models") && last.contains("digits@1"), "how it was stays:\n{last}");
    terminal.press("q");
    assert_eq!(terminal.end().code(), Some(0));
    poll("the terminal is restored", || terminal.is_restored());
}

#[test]
fn of_many_the_worst_is_first_and_keys_open_and_sort() {
    let turn = Turn::shared();
    let [one, other] = [turn.serve(&["--label", "one"]), turn.serve(&["--label", "other"])];
    let [first, second] = [&one, &other].map(|server| server.address.to_string());
    let mut terminal = top(&[&first, &second], (100, 30), "");
    let row = |text: &str, part: &str| {
        text.lines().position(|line| line.contains(part)).unwrap_or_else(|| panic!("{part} is not in\n{text}"))
    };
    terminal.wait_for(&["2 replicas", "● 2 ready", &first, &second, "REQ/S"]);
    other.signal(Signal::KILL);
    let text = terminal.wait_for(&["✖ 1 no answer", "● 1 ready", "connection refused"]);
    assert!(row(&text, &format!("✖ {second}")) < row(&text, &format!("● {first}")), "{text}");

    terminal.press("\r");
    terminal.wait_for(&["No answer for", "It was serving, and said no farewell.", "other", "Esc all"]);
    terminal.press("\u{1b}[C");
    terminal.wait_for(&["one", "serving for", "✔ /ready"]);
    terminal.press("\u{1b}");
    terminal.wait_for(&["2 replicas"]);
    terminal.press("?");
    terminal.wait_for(&["order: worst", "FLIGHT", "any key"]);
    terminal.press(" ");
    terminal.press("n");
    terminal.wait_for(&["2 replicas", "order: name"]);

    terminal.resize(60, 12);
    let text = terminal.wait_for(&["2 replicas", "REPLICA", &first, "no answer"]);
    assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
    terminal.press("\u{3}");
    assert_eq!(terminal.end().code(), Some(0));
    poll("the terminal is restored", || terminal.is_restored());
}

#[test]
fn a_signal_leaves_the_terminal_as_it_was_and_colours_are_for_who_wants_them() {
    let turn = Turn::shared();
    let server = turn.serve(&[]);
    for (signal, no_color) in [(Signal::TERM, ""), (Signal::INT, "1")] {
        let mut terminal = top(&[&server.address.to_string()], (80, 24), no_color);
        terminal.wait_for(&["serving for", "Transitions"]);
        assert!(terminal.is_taken() && !terminal.is_restored());
        assert_eq!(terminal.has_colors(), no_color.is_empty());
        terminal.signal(signal);
        assert_eq!(terminal.end().code(), Some(0), "{signal:?}");
        poll("the terminal is restored", || terminal.is_restored());
    }
}
