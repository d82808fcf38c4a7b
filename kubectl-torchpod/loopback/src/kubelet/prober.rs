//! One probe of one pod: a thread that asks at the probe's period, each time on a new connection.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use kubectl_torchpod::rollout::End;

use super::rules::{Event, Probe, Spec};
use crate::blueprint::Blueprint;
use crate::client::{Connection, get_request};
use crate::cluster::Shared;
use crate::scale::Scale;

pub(crate) struct Prober {
    pod: usize,
    probe: Probe,
    spec: Spec,
    address: SocketAddr,
    path: String,
}

/// A probe for each that the manifest has.
pub(crate) fn all(shared: &Shared, pod: usize, blueprint: &Blueprint) -> Vec<Prober> {
    let host = shared.look(|state| state.pods[pod].address);
    let prober = |(probe, yaml): (Probe, &core::Probe)| {
        let http = yaml.http_get.as_ref().expect("`blueprint::check` wants it");
        let port = blueprint.port(&http.port).expect("`blueprint::check` has looked for it");
        let address = SocketAddr::from((host, shared.network.port(port)));
        let path = http.path.clone().unwrap_or_else(|| "/".to_owned());
        Prober { pod, probe, spec: spec(yaml, shared.scale), address, path }
    };
    written(blueprint).map(prober).collect()
}

pub(crate) fn specs(blueprint: &Blueprint, scale: Scale) -> Vec<(Probe, Spec)> {
    written(blueprint).map(|(probe, yaml)| (probe, spec(yaml, scale))).collect()
}

/// Where nobody asks whether it is ready, it is once it has started.
pub(super) fn is_ready_without_asking(blueprint: &Blueprint, started: bool) -> bool {
    started && blueprint.container().readiness_probe.is_none()
}

fn written(blueprint: &Blueprint) -> impl Iterator<Item = (Probe, &core::Probe)> {
    let container = blueprint.container();
    let probes = [
        (Probe::Startup, &container.startup_probe),
        (Probe::Liveness, &container.liveness_probe),
        (Probe::Readiness, &container.readiness_probe),
    ];
    probes.into_iter().filter_map(|(probe, yaml)| Some((probe, yaml.as_ref()?)))
}

fn spec(yaml: &core::Probe, scale: Scale) -> Spec {
    let count = |number: Option<i32>, default| number.map_or(default, |number| u32::try_from(number).expect("a count"));
    Spec {
        initial_delay: scale.seconds(yaml.initial_delay_seconds, 0),
        period: scale.seconds(yaml.period_seconds, 10),
        timeout: Duration::from_secs(u64::from(count(yaml.timeout_seconds, 1))),
        failure_threshold: count(yaml.failure_threshold, 3),
        success_threshold: count(yaml.success_threshold, 1),
    }
}

impl Prober {
    /// Until the pod is gone.
    pub(crate) fn work(&self, shared: &Shared) {
        let (mut tick, mut was_started) = (shared.look(|state| state.pods[self.pod].created), false);
        while let Some((turn, container)) = self.wait_for_turn(shared, tick, &mut was_started) {
            let passed = self.ask().is_ok_and(|status| (200..400).contains(&status));
            self.conclude(shared, container, passed);
            // Of the ticks that came while it was asked, the last one stays.
            let missed = shared.now().saturating_sub(turn).div_duration_f64(self.spec.period).floor().max(1.0);
            tick = turn + self.spec.period.mul_f64(missed);
        }
    }

    /// Returns the tick at which to ask, and when the container that is asked was started. A container that has just
    /// passed its startup probe has its readiness asked at once.
    fn wait_for_turn(
        &self,
        shared: &Shared,
        mut tick: Duration,
        was_started: &mut bool,
    ) -> Option<(Duration, Duration)> {
        let mut state = shared.lock();
        loop {
            let pod = &state.pods[self.pod];
            if state.closing || pod.end == End::Finished {
                return None;
            }
            let now = shared.now();
            let started = pod.container.as_ref().is_some_and(|running| running.rules.started());
            let triggered = self.probe == Probe::Readiness && started && !*was_started;
            *was_started = started;
            if let Some(running) = &pod.container
                && (triggered || now >= tick)
                && running.rules.asks(self.probe, now.saturating_sub(running.since))
            {
                return Some((if triggered { now } else { tick }, running.since));
            }
            while now >= tick {
                tick += self.spec.period;
            }
            state = shared.wait(state, tick.saturating_sub(now));
        }
    }

    fn ask(&self) -> io::Result<u16> {
        let stream = TcpStream::connect_timeout(&self.address, self.spec.timeout)?;
        let limits = stream.try_clone()?;
        let mut connection = Connection::over(stream);
        limits.set_read_timeout(Some(self.spec.timeout))?;
        connection.ask(&get_request(&self.path)).map(|answer| answer.status)
    }

    fn conclude(&self, shared: &Shared, container: Duration, passed: bool) {
        let mut state = shared.lock();
        let pod = &mut state.pods[self.pod];
        // It may have been broken off by the container's end.
        let Some(running) = pod.container.as_mut().filter(|running| running.since == container) else { return };
        let Some(event) = running.rules.take(self.probe, passed) else { return };
        let now = shared.now();
        match event {
            Event::Started => {
                pod.started = true;
                if is_ready_without_asking(&pod.blueprint, true) {
                    pod.set_ready(true, now);
                }
            }
            Event::Ready => pod.set_ready(true, now),
            Event::Unready => pod.set_ready(false, now),
            Event::Kill(_) => pod.condemned = true,
        }
        state.note(now, format!("pod {}: {event:?}", self.pod));
        shared.settle(&mut state);
    }
}
