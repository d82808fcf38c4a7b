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

use crate::blueprint::Blueprint;
use crate::cluster::Shared;
use crate::pod::{Exit, Running, Waiting};
use crate::process::{self, Place, Version};
use prober::Prober;

/// How often a process is looked at.
const GLANCE: Duration = Duration::from_millis(10);
/// A container that ends by itself comes back after this, and then ever later. (Measured on 1.36, p50.)
const BACK_OFF: [u64; 4] = [400, 11_000, 22_000, 44_000];

pub(crate) fn run(shared: &Arc<Shared>, id: usize) {
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

/// How soon an image that was not there is looked for again. (A real kubelet begins with 10 s.)
const PULL_AGAIN: Duration = Duration::from_secs(1);

struct Kubelet<'a> {
    shared: &'a Arc<Shared>,
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
            let Some(version) = self.pull() else { continue };
            let (since, mut child) = self.start(&version);
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
            self.ended(since, told, status.code());
            if told.is_none() {
                self.back_off(crashes);
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

    /// What the image holds. None, where nothing is wanted of it any more before somebody knows it.
    fn pull(&self) -> Option<Version> {
        let image = self.blueprint.image();
        let mut tries = 0;
        while matches!(self.wanted(), Wanted::Running | Wanted::Restarted) {
            let known = self.shared.look(|state| state.images.get(image).cloned());
            if known.is_some() {
                return known;
            }
            let (reason, message) = match tries {
                0 => ("ErrImagePull", format!("failed to pull image \"{image}\": not found")),
                _ => ("ImagePullBackOff", format!("Back-off pulling image \"{image}\"")),
            };
            self.wait_for(reason, message);
            self.rest(PULL_AGAIN);
            tries += 1;
        }
        None
    }

    /// Says why the container does not run.
    fn wait_for(&self, reason: &'static str, message: String) {
        self.shared.change(|state, now| {
            let waiting = Some(Waiting { reason, message });
            if state.pods[self.id].waiting != waiting {
                state.note(now, format!("pod {}: {reason}", self.id));
                state.pods[self.id].waiting = waiting;
            }
        });
    }

    fn start(&self, version: &Version) -> (Duration, Child) {
        let (address, namespace) = self.shared.look(|state| {
            let pod = &state.pods[self.id];
            (pod.address, pod.namespace().to_owned())
        });
        let services = self.shared.balancer.variables(self.shared, &namespace);
        let place = Place { network: self.shared.network, address, services };
        let log = OpenOptions::new().create(true).append(true).open(self.shared.log(self.id)).expect("a log opens");
        let child = process::start(self.blueprint.container(), version, &place, log);
        let rules = rules::Container::new(prober::specs(&self.blueprint, self.shared.scale));
        let since = self.shared.change(|state, now| {
            let pod = &mut state.pods[self.id];
            if prober::is_ready_without_asking(&self.blueprint, rules.started()) {
                pod.set_ready(true, now);
            }
            (pod.container, pod.waiting) = (Some(Running { since: now, rules }), None);
            state.note(now, format!("pod {} runs", self.id));
            now
        });
        (since, child)
    }

    /// Ends it as deletion does. Returns when it was sent SIGTERM, unless it had ended before.
    fn stop(&self, child: &mut Child) -> Option<Duration> {
        let asked = self.shared.look(|state| state.pods[self.id].deleted.map(|(_, grace)| grace));
        let grace = asked.unwrap_or_else(|| self.blueprint.grace());
        let sleep = self.blueprint.sleep().min(grace);
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

    fn ended(&self, since: Duration, told: Option<Duration>, code: Option<i32>) {
        self.shared.change(|state, now| {
            let pod = &mut state.pods[self.id];
            pod.exits.push(Exit { since, told, at: now, code });
            (pod.container, pod.condemned) = (None, false);
            pod.set_ready(false, now);
            pod.restarts += u32::from(pod.stays());
            state.note(now, format!("pod {} ended with {code:?}", self.id));
        });
    }

    /// After a container has ended by itself, so many times before.
    fn back_off(&self, crashes: usize) {
        if crashes > 0 {
            let (container, pod) =
                (&self.blueprint.container().name, self.shared.look(|state| state.pods[self.id].name().to_owned()));
            let message = format!("back-off restarting failed container={container} pod={pod}");
            self.wait_for("CrashLoopBackOff", message);
        }
        self.rest(Duration::from_millis(BACK_OFF[crashes.min(BACK_OFF.len() - 1)]));
    }

    fn rest(&self, time: Duration) {
        let end = self.shared.now() + time;
        while self.shared.now() < end && self.wanted() == Wanted::Running {
            thread::sleep(GLANCE);
        }
    }

    fn finish(&self) {
        self.shared.change(|state, now| state.finish(self.id, now));
    }
}
