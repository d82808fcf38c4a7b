//! A kubelet's part in one pod: it starts the container, asks its probes, starts it again when it ends, and ends it well:
//! preStop, SIGTERM, the grace, SIGKILL.

mod prober;
/// When a probe is asked and what follows from its answers; the server's tests hold it against recordings of real nodes.
#[path = "../../../tests/it/kubelet/container.rs"]
#[allow(dead_code)] // Its own tests use all of it.
pub(crate) mod rules;

use std::fs::OpenOptions;
use std::process::Child;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kubectl_torchpod::rollout::End;

use crate::cluster::Shared;
use crate::pod::{Blueprint, Exit, Running};
use crate::process;
use prober::Prober;

/// How often a process is looked at.
const GLANCE: Duration = Duration::from_millis(10);
/// A container that ends by itself comes back after this, and then ever later. (Measured on 1.36, p50.)
const BACK_OFF: [u64; 4] = [400, 11_000, 22_000, 44_000];

pub(crate) fn run(shared: &Shared, id: usize) {
    let blueprint = shared.look(|state| state.pods[id].blueprint.clone());
    let probers = prober::all(shared, id, &blueprint);
    thread::scope(|scope| {
        for prober in &probers {
            let work = || Prober::work(prober, shared);
            thread::Builder::new().name(format!("probe of {id}")).spawn_scoped(scope, work).expect("a thread starts");
        }
        Kubelet { shared, id, blueprint }.keep();
    });
}

struct Kubelet<'a> {
    shared: &'a Shared,
    id: usize,
    blueprint: Arc<Blueprint>,
}

/// What is wanted of the pod.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Running,
    /// Ended well, and then again.
    Restarted,
    /// Ended well.
    Deleted,
    /// The test is over.
    Nothing,
}

impl Kubelet<'_> {
    // ## Running => ended by itself => Running, after a while
    // ## Running => condemned by a probe => Running
    // ## Running => deleted => Finished
    fn keep(&self) {
        let mut crashes = 0;
        loop {
            match self.wanted() {
                Wanted::Running | Wanted::Restarted => {}
                Wanted::Deleted => return self.finish(),
                Wanted::Nothing => return,
            }
            let mut child = self.start();
            let told = loop {
                if child.try_wait().expect("it is our child").is_some() {
                    break None;
                }
                match self.wanted() {
                    Wanted::Running => thread::sleep(GLANCE),
                    Wanted::Restarted | Wanted::Deleted => break self.stop(&mut child),
                    Wanted::Nothing => break None,
                }
            };
            if self.wanted() == Wanted::Nothing {
                let _ = child.kill();
            }
            let status = child.wait().expect("it is our child");
            self.ended(told, status.code());
            if told.is_none() {
                self.back_off(Duration::from_millis(BACK_OFF[crashes.min(BACK_OFF.len() - 1)]));
                crashes += 1;
            }
        }
    }

    fn wanted(&self) -> Wanted {
        self.shared.look(|state| {
            let pod = &state.pods[self.id];
            match pod.end {
                _ if state.closing => Wanted::Nothing,
                End::Stays if pod.condemned => Wanted::Restarted,
                End::Stays => Wanted::Running,
                End::Terminating | End::Finished => Wanted::Deleted,
            }
        })
    }

    fn start(&self) -> Child {
        let (address, version) = self.shared.look(|state| {
            let pod = &state.pods[self.id];
            (pod.address, pod.blueprint.version.clone())
        });
        let log = OpenOptions::new().create(true).append(true).open(self.shared.log(self.id)).expect("a log opens");
        let child = process::start(self.blueprint.container(), &version, self.shared.network, address, log);
        let rules = prober::specs(&self.blueprint, self.shared.scale);
        self.shared.change(|state, now| {
            let rules = rules::Container::new(rules);
            state.pods[self.id].container = Some(Running { since: now, rules });
            state.note(now, format!("pod {} runs", self.id));
        });
        child
    }

    /// Ends it as deletion does. Returns when it was sent SIGTERM, unless it had ended before.
    fn stop(&self, child: &mut Child) -> Option<Duration> {
        let (sleep, grace) = (self.blueprint.sleep(), self.blueprint.grace());
        if self.ends_within(child, sleep) {
            return None;
        }
        let told = self.shared.now();
        process::terminate(child);
        self.shared.change(|state, now| state.note(now, format!("pod {} is told to end", self.id)));
        if !self.ends_within(child, grace.saturating_sub(sleep)) {
            let _ = child.kill();
        }
        Some(told)
    }

    fn ends_within(&self, child: &mut Child, time: Duration) -> bool {
        let end = self.shared.now() + time;
        loop {
            if child.try_wait().expect("it is our child").is_some() {
                return true;
            }
            let left = end.saturating_sub(self.shared.now());
            if left.is_zero() || self.wanted() == Wanted::Nothing {
                return false;
            }
            thread::sleep(left.min(GLANCE));
        }
    }

    fn ended(&self, told: Option<Duration>, code: Option<i32>) {
        self.shared.change(|state, now| {
            let pod = &mut state.pods[self.id];
            pod.exits.push(Exit { told, at: now, code });
            (pod.container, pod.ready_since, pod.condemned) = (None, None, false);
            pod.restarts += u32::from(pod.stays());
            state.note(now, format!("pod {} ended with {code:?}", self.id));
        });
    }

    fn back_off(&self, time: Duration) {
        let end = self.shared.now() + time;
        while self.shared.now() < end && self.wanted() == Wanted::Running {
            thread::sleep(GLANCE);
        }
    }

    fn finish(&self) {
        self.shared.change(|state, now| state.finish(self.id, now));
    }
}
