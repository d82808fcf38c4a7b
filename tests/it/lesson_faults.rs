//! Faults under the lesson's probes: the right probe fails, and only that one, in the order that the kubelet would see.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::client::{self, JSON, SAMPLE};
use crate::kubelet::{Event, History, Kubelet, Probe};
use crate::lesson_probes::{delete, over_http, passes, start};
use crate::support::{Turn, poll};

/// Waits until the container is ready and liveness, which is the last to be asked, has passed once.
fn wait_until_settled(kubelet: &Kubelet) {
    kubelet.wait_for("ready and alive", |history| {
        history.events().contains(&Event::Ready) && passes(history, Probe::Liveness) >= 1
    });
}

/// Waits for the next events.
fn wait_for_events(kubelet: &Kubelet, expected: &[Event]) {
    kubelet.wait_for(&format!("{expected:?}"), |history| history.events() == expected);
}

/// Waits for some more rounds of liveness, in which everybody is asked.
fn wait_for_rounds(kubelet: &Kubelet, rounds: usize) {
    let asked = kubelet.history().results(Probe::Liveness).count();
    kubelet.wait_for("more rounds", |history| history.results(Probe::Liveness).count() >= asked + rounds);
}

fn check_startup(history: &History) {
    assert_eq!(history.verdicts(Probe::Startup).last(), Some(&true), "startup latches\n{history}");
}

#[test]
fn a_hang_takes_the_pod_out_of_service_and_then_has_it_restarted() {
    let turn = Turn::alone();
    let arguments = ["--chaos", "hang-after=1s", "--stall-limit", "500ms", "--on-fatal", "stay"];
    let (server, kubelet) = start(&turn, &arguments, over_http);
    wait_until_settled(&kubelet);
    let address = server.address;
    // Its answer, if there is one, comes with the process's end.
    let hangs = move || drop(client::ask(address, &client::predict_request(JSON, SAMPLE)));
    thread::Builder::new().name("hangs".to_owned()).spawn(hangs).expect("a thread starts");
    poll("/health says hung", || {
        let answer = client::get(address, "/health");
        answer.status == 503 && answer.json()["reason"] == json!("hung")
    });
    wait_for_events(&kubelet, &[Event::Started, Event::Ready, Event::Unready, Event::Kill(Probe::Liveness)]);
    drop(server);
    let history = kubelet.stop();
    println!("{history}");
    assert_eq!(history.verdicts(Probe::Liveness), [true, false], "{history}");
    assert_eq!(history.results(Probe::Liveness).filter(|(_, passed)| !passed).count(), 3, "{history}");
    assert_eq!(history.verdicts(Probe::Readiness), [true, false], "{history}");
    check_startup(&history);
}

#[test]
fn a_worker_that_panics_costs_one_answer_and_no_probe() {
    let turn = Turn::alone();
    let (server, kubelet) = start(&turn, &["--chaos", "worker-panic-after=1s", "--drain-delay", "0s"], over_http);
    wait_until_settled(&kubelet);
    let statuses = [(); 2].map(|()| client::predict(server.address, JSON, SAMPLE).status);
    assert_eq!(statuses, [500, 200]);
    wait_for_rounds(&kubelet, 2);
    let (history, ended) = delete(server, kubelet);
    println!("{history}");
    assert_eq!(history.events(), [Event::Started, Event::Ready], "{history}");
    assert_eq!(history.verdicts(Probe::Liveness), [true], "{history}");
    let before = history.deleted().expect("it was");
    assert!(history.results(Probe::Readiness).all(|(at, passed)| passed || at > before), "{history}");
    check_startup(&history);
    assert_eq!(ended.code, Some(0), "{}", ended.log.text());
}

/// A dependency that takes connections, until it is dropped.
struct Dependency {
    stop: Arc<AtomicBool>,
    taking: Option<thread::JoinHandle<()>>,
}

impl Dependency {
    fn open(address: SocketAddr) -> (Self, SocketAddr) {
        let listener = TcpListener::bind(address).expect("the port is free");
        let address = listener.local_addr().expect("it is bound");
        listener.set_nonblocking(true).expect("an option of every socket");
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let take = move || {
            while !told.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(2)),
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let taking = thread::Builder::new().name("dependency".to_owned()).spawn(take).expect("a thread starts");
        (Self { stop, taking: Some(taking) }, address)
    }
}

impl Drop for Dependency {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(taking) = self.taking.take() {
            let _ = taking.join();
        }
    }
}

#[test]
fn a_dependency_that_goes_and_comes_back_moves_readiness_and_nothing_else() {
    let turn = Turn::alone();
    let (dependency, address) = Dependency::open(([127, 0, 0, 1], 0).into());
    let url = format!("tcp://{address}#interval=100ms,failures=2");
    let (server, kubelet) = start(&turn, &["--dependency", &url, "--drain-delay", "0s"], over_http);
    wait_until_settled(&kubelet);
    drop(dependency);
    wait_for_events(&kubelet, &[Event::Started, Event::Ready, Event::Unready]);
    wait_for_rounds(&kubelet, 4); // More than it takes to fail liveness.
    let (_dependency, _) = Dependency::open(address);
    wait_for_events(&kubelet, &[Event::Started, Event::Ready, Event::Unready, Event::Ready]);
    let (history, ended) = delete(server, kubelet);
    println!("{history}");
    assert_eq!(history.verdicts(Probe::Liveness), [true], "{history}");
    let before = history.deleted().expect("it was");
    let mut readiness: Vec<_> =
        history.results(Probe::Readiness).filter(|(at, _)| *at < before).map(|(_, p)| p).collect();
    readiness.dedup();
    assert_eq!(readiness, [true, false, true], "{history}");
    check_startup(&history);
    assert_eq!(ended.code, Some(0), "{}", ended.log.text());
}

#[test]
fn a_dependency_that_is_down_from_the_start_keeps_the_pod_started_and_unready() {
    let turn = Turn::alone();
    let (dependency, address) = Dependency::open(([127, 0, 0, 1], 0).into());
    drop(dependency);
    let url = format!("tcp://{address}#interval=100ms,failures=2");
    let (server, kubelet) = start(&turn, &["--dependency", &url, "--drain-delay", "0s"], over_http);
    kubelet.wait_for("liveness", |history| passes(history, Probe::Liveness) >= 2);
    let (history, ended) = delete(server, kubelet);
    println!("{history}");
    assert_eq!(history.events(), [Event::Started], "{history}");
    assert_eq!(history.verdicts(Probe::Readiness), [false], "{history}");
    assert_eq!(history.verdicts(Probe::Liveness), [true], "{history}");
    check_startup(&history);
    assert_eq!(ended.code, Some(0), "{}", ended.log.text());
}
