//! The kubelet's prober, as a server meets it: a thread a probe that asks on new connections, at its period, after its
//! delay, and concludes by its thresholds. It kills nobody: that it would is an event like the others.
//!
//! `container` has the rules, checked against recordings of a real kubelet in `recording`; `handler` asks.

mod container;
mod handler;
mod recording;

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use container::{Event, Probe, Spec};
pub(crate) use handler::{Handler, Outcome};

use container::Container;

use crate::support::PATIENCE;

/// A pod's container under probes. Dropped, it is left alone.
pub(crate) struct Kubelet {
    shared: Arc<Shared>,
    workers: Vec<thread::JoinHandle<()>>,
}

struct Shared {
    born: Instant,
    state: Mutex<State>,
    moved: Condvar,
}

struct State {
    container: Container,
    history: History,
    gone: bool,
}

/// Everything that was asked and concluded, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(Vec<(Duration, Entry)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Asked(Probe, Outcome),
    Concluded(Event),
    Deleted,
}

impl Kubelet {
    /// Probes the container that was born then, from its first moment.
    pub(crate) fn watch(born: Instant, probes: Vec<(Probe, Spec, Handler)>) -> Self {
        let container = Container::new(probes.iter().map(|(probe, spec, _)| (*probe, *spec)));
        let state = State { container, history: History::default(), gone: false };
        let shared = Arc::new(Shared { born, state: Mutex::new(state), moved: Condvar::new() });
        let start = |(probe, spec, handler): (Probe, Spec, Handler)| {
            let shared = shared.clone();
            let work = move || shared.work(probe, spec, &handler);
            thread::Builder::new().name(format!("{probe:?}")).spawn(work).expect("a thread starts")
        };
        let workers = probes.into_iter().map(start).collect();
        Self { shared, workers }
    }

    /// Waits until the history is as `wanted`; `what` names it where that never comes.
    pub(crate) fn wait_for(&self, what: &str, wanted: impl Fn(&History) -> bool) {
        let not_yet = |state: &mut State| !wanted(&state.history);
        let end = self.shared.moved.wait_timeout_while(self.shared.lock(), PATIENCE, not_yet);
        let (state, end) = end.unwrap_or_else(PoisonError::into_inner);
        assert!(!end.timed_out(), "{what}: never came\n{}", state.history);
    }

    /// The pod is deleted; its container is signalled next.
    pub(crate) fn delete(&self) {
        let mut state = self.shared.lock();
        state.container.delete();
        self.shared.note(&mut state, Entry::Deleted);
    }

    /// What has happened so far.
    pub(crate) fn history(&self) -> History {
        self.shared.lock().history.clone()
    }

    /// The container is gone. Returns what happened.
    pub(crate) fn stop(mut self) -> History {
        self.leave();
        for worker in self.workers.drain(..) {
            worker.join().expect("a worker does not panic");
        }
        self.history()
    }

    fn leave(&self) {
        self.shared.lock().gone = true;
        self.shared.moved.notify_all();
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, state: &mut State, entry: Entry) {
        state.history.0.push((self.born.elapsed(), entry));
        self.moved.notify_all();
    }

    /// One probe, until the container is gone.
    fn work(&self, probe: Probe, spec: Spec, handler: &Handler) {
        let mut tick = self.born;
        while let Some(asked) = self.wait_for_turn(probe, spec, tick) {
            let outcome = handler.ask(spec.timeout);
            let mut state = self.lock();
            if state.gone {
                return; // It may have been broken off by the container's end.
            }
            let event = match &outcome {
                Outcome::Lost(_) => None,
                outcome => state.container.take(probe, *outcome == Outcome::Pass),
            };
            self.note(&mut state, Entry::Asked(probe, outcome));
            if let Some(event) = event {
                self.note(&mut state, Entry::Concluded(event));
            }
            // Of the ticks that came while it was asked, the last one stays.
            let missed = asked.elapsed().div_duration_f64(spec.period).floor().max(1.0);
            tick = asked + spec.period.mul_f64(missed);
        }
    }

    /// Sleeps through the ticks at which nothing is asked. Returns the one at which to ask, or `None` at the end. A
    /// container that has just started has its readiness asked at once, not only at the next tick.
    fn wait_for_turn(&self, probe: Probe, spec: Spec, mut tick: Instant) -> Option<Instant> {
        let mut state = self.lock();
        let mut was_started = state.container.started();
        while !state.gone {
            let (now, started) = (Instant::now(), state.container.started());
            let triggered = probe == Probe::Readiness && started && !was_started;
            was_started = started;
            if (triggered || now >= tick) && state.container.asks(probe, now - self.born) {
                return Some(if triggered { now } else { tick });
            }
            while now >= tick {
                tick += spec.period;
            }
            state = self.moved.wait_timeout(state, tick - now).unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }
}

impl History {
    pub(crate) fn events(&self) -> Vec<Event> {
        self.concluded().map(|(_, event)| event).collect()
    }

    /// When `event` was concluded first, from the container's start.
    pub(crate) fn at(&self, event: Event) -> Duration {
        let found = self.concluded().find(|(_, concluded)| *concluded == event);
        found.unwrap_or_else(|| panic!("{event:?} never came:\n{self}")).0
    }

    /// What `probe` was answered, whether it passed, each run of equal results as one.
    pub(crate) fn verdicts(&self, probe: Probe) -> Vec<bool> {
        let mut verdicts: Vec<_> = self.results(probe).map(|(_, passed)| passed).collect();
        verdicts.dedup();
        verdicts
    }

    /// When `probe` was answered, and whether it passed.
    pub(crate) fn results(&self, probe: Probe) -> impl Iterator<Item = (Duration, bool)> {
        self.0.iter().filter_map(move |(at, entry)| match entry {
            Entry::Asked(asked, Outcome::Pass) if *asked == probe => Some((*at, true)),
            Entry::Asked(asked, Outcome::Fail(_)) if *asked == probe => Some((*at, false)),
            _ => None,
        })
    }

    /// When the pod was deleted.
    pub(crate) fn deleted(&self) -> Option<Duration> {
        self.0.iter().find(|(_, entry)| *entry == Entry::Deleted).map(|(at, _)| *at)
    }

    fn concluded(&self) -> impl Iterator<Item = (Duration, Event)> {
        self.0.iter().filter_map(|(at, entry)| match entry {
            Entry::Concluded(event) => Some((*at, *event)),
            _ => None,
        })
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(at, entry)| writeln!(f, "{:>8.3} s  {entry:?}", at.as_secs_f64()))
    }
}
