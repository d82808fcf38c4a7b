//! The lesson's probe specifications against real processes, by a prober that does what the kubelet does: what it would
//! have seen and concluded, in order, from a pod's first moment to its last. A second of the lesson is 50 ms here.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::kubelet::{Event, Handler, History, Kubelet, Probe, Spec};
use crate::support::{BINARY, Ended, Server, Turn};

/// What a probe has, and a pod's container has of them.
pub(crate) type Probes = Vec<(Probe, Spec, Handler)>;

/// How late a busy machine may be.
const LATE: Duration = Duration::from_millis(200);

const fn seconds(lesson: u64) -> Duration {
    Duration::from_millis(lesson * 50)
}

/// What the kubelet takes where the YAML says nothing. Its timeout of 1 s is not scaled down all the way: to start a
/// process takes as long here as there.
const DEFAULT: Spec = Spec {
    initial_delay: seconds(0),
    period: seconds(10),
    timeout: seconds(5),
    failure_threshold: 3,
    success_threshold: 1,
};

/// 12 × 5 s for loading; the last of twelve probes comes after 55 s.
const STARTUP: Spec = Spec { period: seconds(5), failure_threshold: 12, ..DEFAULT };
const LIVENESS: Spec = Spec { initial_delay: seconds(60), timeout: seconds(5), ..DEFAULT };
const READINESS: Spec =
    Spec { initial_delay: seconds(10), period: seconds(5), timeout: seconds(3), success_threshold: 2, ..DEFAULT };
/// The startup budget: its first probe comes at once.
const BUDGET: Duration = seconds(11 * 5);

/// The three probes of the lesson's pod.
pub(crate) fn over_http(server: &Server<'_>) -> Probes {
    let http = |path| Handler::Http(server.address, path);
    vec![
        (Probe::Startup, STARTUP, http("/startup")),
        (Probe::Liveness, LIVENESS, http("/health")),
        (Probe::Readiness, READINESS, http("/ready")),
    ]
}

/// The lesson's pod with its custom liveness probe.
fn with_liveness(server: &Server<'_>, initial_delay: u64, handler: Handler) -> Probes {
    let mut probes = over_http(server);
    probes[1] = (Probe::Liveness, Spec { initial_delay: seconds(initial_delay), ..DEFAULT }, handler);
    probes
}

fn with_tcp(server: &Server<'_>) -> Probes {
    with_liveness(server, 15, Handler::Tcp(server.address))
}

fn with_curl(server: &Server<'_>) -> Probes {
    let line = format!("curl -f http://localhost:{}/health || exit 1", server.address.port());
    with_liveness(server, 30, Handler::Exec(["/bin/sh", "-c", &line].map(str::to_owned).to_vec()))
}

fn with_grpc(server: &Server<'_>) -> Probes {
    with_liveness(server, 10, Handler::Grpc(server.grpc, ""))
}

fn over_grpc(server: &Server<'_>) -> Probes {
    let grpc = |service| Handler::Grpc(server.grpc, service);
    vec![
        (Probe::Startup, STARTUP, grpc("startup")),
        (Probe::Liveness, LIVENESS, grpc("liveness")),
        (Probe::Readiness, READINESS, grpc("readiness")),
    ]
}

fn over_exec(server: &Server<'_>) -> Probes {
    let exec = |question: &str, flags: &[&str], address: SocketAddr| {
        let url = format!("http://{address}");
        let command = [&[BINARY, "probe", question, "--url", &url], flags].concat();
        Handler::Exec(command.into_iter().map(str::to_owned).collect())
    };
    vec![
        (Probe::Startup, STARTUP, exec("startup", &[], server.address)),
        (Probe::Liveness, LIVENESS, exec("health", &["--grpc"], server.grpc)),
        (Probe::Readiness, READINESS, exec("ready", &[], server.address)),
    ]
}

/// A server, and the kubelet that has probed it from its first moment.
pub(crate) fn start<'turn>(
    turn: &'turn Turn,
    arguments: &[&str],
    probes: impl FnOnce(&Server<'_>) -> Probes,
) -> (Server<'turn>, Kubelet) {
    let born = Instant::now();
    let server = turn.start(arguments);
    let kubelet = Kubelet::watch(born, probes(&server));
    (server, kubelet)
}

/// Deletes the pod: from here on the kubelet asks readiness only, until the process has ended by itself.
pub(crate) fn delete(server: Server<'_>, kubelet: Kubelet) -> (History, Ended) {
    kubelet.delete();
    server.signal(Signal::TERM);
    let ended = server.end_within(Duration::from_secs(10));
    (kubelet.stop(), ended)
}

/// Whether `probe` has passed that often.
pub(crate) fn passes(history: &History, probe: Probe) -> usize {
    history.results(probe).filter(|(_, passed)| *passed).count()
}

/// Slow loading, serving, and a deletion, probed all the way.
fn whole_life(turn: &Turn, probes: fn(&Server<'_>) -> Probes) -> (Probes, History, Ended) {
    let (server, kubelet) = start(turn, &["--chaos", "load-delay=300ms", "--drain-delay", "1500ms"], probes);
    let probes = probes(&server);
    kubelet.wait_for("ready, and two liveness probes", |history| {
        history.events().contains(&Event::Ready) && passes(history, Probe::Liveness) >= 2
    });
    let (history, ended) = delete(server, kubelet);
    (probes, history, ended)
}

fn check_whole_life(probes: &Probes, history: &History, ended: &Ended) {
    assert_eq!(history.events(), [Event::Started, Event::Ready, Event::Unready], "{history}");
    assert_eq!(history.verdicts(Probe::Startup), [false, true], "{history}");
    assert_eq!(history.verdicts(Probe::Liveness), [true], "liveness is never failed\n{history}");
    assert_eq!(history.verdicts(Probe::Readiness), [true, false], "{history}");

    let first = |probe| history.results(probe).next().expect("it was asked").0;
    for (probe, spec, _) in probes {
        assert!(first(*probe) >= spec.initial_delay, "{probe:?}\n{history}");
    }
    // Readiness is asked at once when start-up is over, and must pass twice.
    let started = history.at(Event::Started);
    assert!(started >= seconds(6) && started < BUDGET + LATE, "{history}");
    assert!(first(Probe::Readiness) < started + LATE, "{history}");
    let second = started + READINESS.period;
    assert!((second..second + LATE).contains(&history.at(Event::Ready)), "{history}");
    // Three failures in a row take at most three periods.
    let deleted = history.deleted().expect("it was");
    assert!(history.at(Event::Unready) < deleted + READINESS.period * 3 + LATE, "{history}");
    let last = history.results(Probe::Liveness).last().expect("it was asked").0;
    assert!(last <= deleted + LIVENESS.timeout, "{history}");
    assert_eq!(ended.code, Some(0), "{}", ended.log.text());
}

/// A name, and the probes of a pod.
type Kind = (&'static str, fn(&Server<'_>) -> Probes);

#[test]
fn a_whole_life_looks_the_same_by_http_tcp_exec_and_grpc() {
    let turn = Turn::alone();
    let kinds: [Kind; 6] = [
        ("the lesson's pod", over_http),
        ("TCP liveness", with_tcp),
        ("exec liveness with curl", with_curl),
        ("gRPC liveness", with_grpc),
        ("gRPC", over_grpc),
        ("exec of torchpod probe", over_exec),
    ];
    // A life is mostly waiting: two at a time, whose loading stays far below the budget.
    for kinds in kinds.chunks(2) {
        thread::scope(|scope| {
            let turn = &turn;
            for (name, probes) in kinds {
                scope.spawn(move || {
                    let (probes, history, ended) = whole_life(turn, *probes);
                    println!("{name}:\n{history}");
                    check_whole_life(&probes, &history, &ended);
                });
            }
        });
    }
}

#[test]
fn a_load_longer_than_the_budget_has_the_container_killed_when_the_budget_is_spent() {
    let turn = Turn::alone();
    let (server, kubelet) = start(&turn, &["--chaos", "load-delay=60s"], over_http);
    kubelet.wait_for("the kill", |history| history.events().contains(&Event::Kill(Probe::Startup)));
    let (history, ended) = delete(server, kubelet); // As the kubelet ends a container that it kills.
    println!("{history}");
    assert_eq!(history.events(), [Event::Kill(Probe::Startup)], "{history}");
    assert_eq!(history.results(Probe::Startup).map(|(_, passed)| passed).collect::<Vec<_>>(), [false; 12], "{history}");
    for probe in [Probe::Liveness, Probe::Readiness] {
        assert_eq!(history.results(probe).count(), 0, "{probe:?} waits for startup\n{history}");
    }
    let killed = history.at(Event::Kill(Probe::Startup));
    assert!((BUDGET..BUDGET + LATE).contains(&killed), "killed after {killed:?}\n{history}");
    assert_eq!(ended.code, Some(0), "{}", ended.log.text());
}
