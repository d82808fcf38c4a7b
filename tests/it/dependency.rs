//! Dependency checks against real servers: what goes and comes is followed in time, what refuses is named, nothing is
//! left open, and nobody waits for another.

mod databases;
mod protocols;

use std::collections::HashSet;
use std::fs;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use torchpod::dependency::monitor::{self, Report};
use torchpod::dependency::{Dependency, Pace};

use crate::support::poll;

/// A debug build on a loaded machine may be this late.
const SLACK: Duration = Duration::from_secs(1);

/// Dependencies that are being checked, and what was told of them.
struct Watching {
    runtime: Runtime,
    rx: Option<monitor::Rx>,
    changes: Receiver<(usize, bool, String)>,
}

/// Checks what the URLs name.
fn watch(urls: &[&str]) -> Watching {
    let parsed = urls.iter().map(|url| url.parse::<Dependency>().unwrap_or_else(|error| panic!("{error}")));
    watch_all(parsed.collect())
}

fn watch_all(dependencies: Vec<Dependency>) -> Watching {
    let runtime = runtime();
    let (tell, changes) = channel();
    let rx = {
        let _entered = runtime.enter();
        monitor::watch(dependencies, move |change| {
            let _ = tell.send((change.index, change.up, change.reason.to_owned()));
        })
    };
    Watching { runtime, rx: Some(rx), changes }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

impl Watching {
    /// The next change, which must be to `up` and come within `limit`; its reason.
    fn changes_to(&self, up: bool, limit: Duration) -> String {
        match self.changes.recv_timeout(limit) {
            Ok((_, now, reason)) if now == up => reason,
            Ok((_, now, reason)) => panic!("up is {now} and not {up}: {reason}"),
            Err(RecvTimeoutError::Timeout) => panic!("up is not {up} within {limit:?}: {:?}", self.reports()),
            Err(RecvTimeoutError::Disconnected) => panic!("the checks have ended"),
        }
    }

    fn comes_up(&self) {
        self.changes_to(true, Duration::from_secs(30));
    }

    fn reports(&self) -> Vec<Report> {
        self.rx.as_ref().expect("it is watched").reports()
    }

    fn report(&self) -> Report {
        self.reports().swap_remove(0)
    }

    /// Waits for a check that fails and says all of `parts`.
    fn fails_with(&self, parts: &[&str]) {
        let mut last = None;
        let started = Instant::now();
        while !last.as_ref().is_some_and(|error: &String| parts.iter().all(|part| error.contains(part))) {
            assert!(started.elapsed() < Duration::from_secs(10), "{parts:?} never came, the last is {last:?}");
            std::thread::sleep(Duration::from_millis(2));
            last = self.report().error.or(last);
        }
    }

    /// Ends the checks; what they leave behind, if anything, still runs.
    fn stop(&mut self) {
        self.rx = None;
    }
}

/// What a URL's options come to.
fn pace(options: &str) -> Pace {
    format!("tcp://any:1{options}").parse::<Dependency>().expect("a URL").pace
}

/// How long `pace` may take to notice that a dependency has gone.
fn notice(pace: Pace) -> Duration {
    pace.interval * pace.failures + pace.timeout
}

/// This process's open connections to a local port.
fn connections_to(port: u16) -> usize {
    let descriptors = fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    let links = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    let ours: HashSet<String> = links.map(|link| link.display().to_string()).collect();
    let table = fs::read_to_string("/proc/self/net/tcp").expect("/proc");
    let remote = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[2].ends_with(&remote) && ours.contains(&format!("socket:[{}]", row[9]))).count()
}

/// Waits until this process has no connection to a local port.
fn no_connection_is_left(port: u16) {
    poll("every connection is closed", || connections_to(port) == 0);
}
