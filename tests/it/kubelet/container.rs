//! What the kubelet concludes from a container's probes: whom it asks when, and results in, events out. No clock, no
//! socket: `recording` replays a real kubelet's results through it.

use std::time::Duration;

/// One of the pod's three probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    Startup,
    Liveness,
    Readiness,
}

/// The numbers of a probe in a pod's YAML, seconds as durations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    pub(crate) initial_delay: Duration,
    pub(crate) period: Duration,
    pub(crate) timeout: Duration,
    pub(crate) failure_threshold: u32,
    pub(crate) success_threshold: u32,
}

/// What the kubelet does about the results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The startup probe has passed: from now on the others are asked.
    Started,
    Ready,
    Unready,
    /// The container would be killed, for this probe's failures.
    Kill(Probe),
}

/// A running container. It starts unready and, without a startup probe, started.
pub(crate) struct Container {
    workers: Vec<Worker>,
    started: bool,
    ready: bool,
    deleted: bool,
}

struct Worker {
    probe: Probe,
    spec: Spec,
    last: Option<bool>,
    /// How many results in a row were like the last.
    run: u32,
    /// It has had its container killed, and waits for another.
    on_hold: bool,
}

impl Container {
    pub(crate) fn new(specs: impl IntoIterator<Item = (Probe, Spec)>) -> Self {
        let worker = |(probe, spec)| Worker { probe, spec, last: None, run: 0, on_hold: false };
        let workers: Vec<_> = specs.into_iter().map(worker).collect();
        let started = workers.iter().all(|worker| worker.probe != Probe::Startup);
        Self { workers, started, ready: false, deleted: false }
    }

    /// Whether `probe` is asked at a tick of its period that comes `age` after the container's start.
    pub(crate) fn asks(&self, probe: Probe, age: Duration) -> bool {
        let in_its_time = match probe {
            Probe::Startup => !self.started && !self.deleted,
            Probe::Liveness => self.started && !self.deleted,
            Probe::Readiness => self.started,
        };
        let worker = self.workers.iter().find(|worker| worker.probe == probe);
        in_its_time && worker.is_some_and(|worker| !worker.on_hold && age >= worker.spec.initial_delay)
    }

    /// Takes a result, and says what follows from it.
    pub(crate) fn take(&mut self, probe: Probe, passed: bool) -> Option<Event> {
        let worker = self.workers.iter_mut().find(|worker| worker.probe == probe)?;
        worker.run = if worker.last == Some(passed) { worker.run + 1 } else { 1 };
        worker.last = Some(passed);
        let threshold = if passed { worker.spec.success_threshold } else { worker.spec.failure_threshold };
        if worker.run < threshold {
            return None;
        }
        match (probe, passed) {
            (Probe::Startup, true) => turned(&mut self.started, true).then_some(Event::Started),
            (Probe::Liveness, true) => None,
            (Probe::Readiness, true) => turned(&mut self.ready, true).then_some(Event::Ready),
            (Probe::Readiness, false) => turned(&mut self.ready, false).then_some(Event::Unready),
            (Probe::Startup | Probe::Liveness, false) => {
                worker.on_hold = true;
                Some(Event::Kill(probe))
            }
        }
    }

    pub(crate) fn started(&self) -> bool {
        self.started
    }

    /// The pod is deleted. Readiness goes on until the container has exited.
    pub(crate) fn delete(&mut self) {
        self.deleted = true;
    }
}

/// Sets `flag`, and says whether that changed it.
fn turned(flag: &mut bool, to: bool) -> bool {
    std::mem::replace(flag, to) != to
}

/// Three of each probe, a second apart.
fn three(failure_threshold: u32, success_threshold: u32) -> Container {
    let spec = |probe| {
        let second = Duration::from_secs(1);
        let success_threshold = if probe == Probe::Readiness { success_threshold } else { 1 };
        (probe, Spec { initial_delay: second, period: second, timeout: second, failure_threshold, success_threshold })
    };
    Container::new([Probe::Startup, Probe::Liveness, Probe::Readiness].map(spec))
}

/// A probe's results, and each event with the number of the result that brought it.
type Row = (Probe, &'static str, &'static [(usize, Event)]);

#[test]
fn thresholds_count_results_in_a_row() {
    use Probe::{Liveness, Readiness, Startup};
    let table: [Row; 6] = [
        (Startup, "---", &[(3, Event::Kill(Startup))]),
        (Startup, "--+", &[(3, Event::Started)]),
        (Liveness, "--+--+---", &[(9, Event::Kill(Liveness))]),
        (Readiness, "+-++", &[(4, Event::Ready)]),
        (Readiness, "-----", &[]),
        (Readiness, "++--+---+++", &[(2, Event::Ready), (8, Event::Unready), (10, Event::Ready)]),
    ];
    for (probe, results, expected) in table {
        let mut container = three(3, 2);
        let events = results.chars().enumerate().filter_map(|(n, c)| Some((n + 1, container.take(probe, c == '+')?)));
        assert_eq!(events.collect::<Vec<_>>(), expected, "{probe:?} {results}");
    }
}

#[test]
fn each_probe_is_asked_only_in_its_time() {
    use Probe::{Liveness, Readiness, Startup};
    let (early, late) = (Duration::from_millis(900), Duration::from_secs(1));
    let asked = |container: &Container| [Startup, Liveness, Readiness].map(|probe| container.asks(probe, late));
    let mut container = three(1, 1);
    assert_eq!(asked(&container), [true, false, false]);
    assert!(!container.asks(Startup, early), "the initial delay counts from the container's start");
    container.take(Startup, true);
    assert_eq!(asked(&container), [false, true, true]);
    assert!(!container.asks(Readiness, early));
    container.delete();
    assert_eq!(asked(&container), [false, false, true]);

    let mut killed = three(1, 1);
    killed.take(Startup, false);
    assert_eq!(asked(&killed), [false, false, false]);
}
