//! The server's life, published: one state machine that everyone reads and few may move.
//!
//! `state` is the pure machine, of which `phase` is the table and `fault` the other half; `Tx` and `Rx` are the two ends
//! of the channel that carries it; `history` remembers; `pulse` is how workers show that they go on; `drain` counts what a
//! shutdown must not lose.

pub mod drain;
pub mod fault;
pub mod history;
pub mod phase;
pub mod pulse;
pub mod state;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use fault::Fault;
pub use history::History;
use history::Transition;
pub use phase::Phase;
pub use state::{Dependencies, Event, State};

/// What is true now. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub state: State,
    /// What is being done on the way to `serving`, e.g. `reading digits/1`.
    pub stage: Arc<str>,
    /// How much of the stage is done, from 0 to 1.
    pub progress: f32,
    pub history: Arc<History>,
}

/// The end that moves the machine.
#[derive(Clone)]
pub struct Tx {
    snapshot: watch::Sender<Snapshot>,
    dependencies: Arc<[Arc<str>]>,
}

/// The end that reads it. Reading takes no lock that inference ever holds.
#[derive(Clone)]
pub struct Rx(watch::Receiver<Snapshot>);

/// A machine in `starting`. `dependencies` has the name of each, and whether readiness needs it.
pub fn channel<'a>(dependencies: impl IntoIterator<Item = (&'a str, bool)>) -> (Tx, Rx) {
    let (names, required): (Vec<Arc<str>>, Vec<bool>) =
        dependencies.into_iter().map(|(name, required)| (name.into(), required)).unzip();
    let snapshot = Snapshot {
        state: State::new(Dependencies::new(required)),
        stage: "".into(),
        progress: 0.0,
        history: Arc::new(History::new()),
    };
    let (snapshot, rx) = watch::channel(snapshot);
    (Tx { snapshot, dependencies: names.into() }, Rx(rx))
}

impl Tx {
    /// Moves the machine if the event means anything now, and logs the transition. Returns whether it moved.
    pub fn apply(&self, event: Event, reason: &str) -> bool {
        let mut made = None;
        self.snapshot.send_if_modified(|snapshot| {
            let Some(next) = snapshot.state.next(event) else { return false };
            let (subject, change) = self.change(event, snapshot.state.phase, next.phase);
            let history = Arc::make_mut(&mut snapshot.history);
            made = Some(history.record(subject, change, reason.into(), next));
            if next.phase != snapshot.state.phase {
                snapshot.stage = "".into();
                snapshot.progress = 0.0;
            }
            snapshot.state = next;
            true
        });
        // Not in the closure: it holds the channel's lock, which probes read under, and a log line may block.
        if let Some(transition) = &made {
            log(event, transition);
        } else {
            tracing::debug!(?event, "event ignored in this state");
        }
        made.is_some()
    }

    pub fn state(&self) -> State {
        self.snapshot.borrow().state
    }

    /// Another end that reads it.
    pub fn subscribe(&self) -> Rx {
        Rx(self.snapshot.subscribe())
    }

    /// What the event changes, and from what to what.
    fn change(&self, event: Event, from: Phase, to: Phase) -> (Arc<str>, (&'static str, &'static str)) {
        let dependency = |index: usize| self.dependencies.get(index).cloned().unwrap_or_else(|| "dependency".into());
        match event {
            Event::Raised(fault) => (fault.name().into(), ("clear", "raised")),
            Event::Cleared(fault) => (fault.name().into(), ("raised", "clear")),
            Event::Emptied => (history::MODELS.into(), ("some", "none")),
            Event::Filled => (history::MODELS.into(), ("none", "some")),
            Event::Up(index) => (dependency(index), ("down", "up")),
            Event::Down(index) => (dependency(index), ("up", "down")),
            _ => (history::PHASE.into(), (from.name(), to.name())),
        }
    }

    /// Says what is being done now, and how much of it is done (0 to 1).
    pub fn progress(&self, stage: &Arc<str>, progress: f32) {
        self.snapshot.send_if_modified(|snapshot| {
            // A loader thread may still be at work when a drain has begun.
            let on_the_way_up = matches!(snapshot.state.phase, Phase::Starting | Phase::Loading | Phase::Warming);
            if on_the_way_up {
                snapshot.stage = stage.clone();
                snapshot.progress = progress;
            }
            on_the_way_up
        });
    }
}

fn log(event: Event, transition: &Transition) {
    let Transition { subject, from, to, reason, lasted, .. } = transition;
    let seconds = lasted.as_secs_f64();
    match event {
        Event::Raised(_) => tracing::error!(%subject, from, to, %reason, seconds, "transition"),
        Event::Down(_) | Event::Emptied => tracing::warn!(%subject, from, to, %reason, seconds, "transition"),
        _ => tracing::info!(%subject, from, to, %reason, seconds, "transition"),
    }
}

impl Rx {
    pub fn snapshot(&self) -> Snapshot {
        self.0.borrow().clone()
    }

    pub fn state(&self) -> State {
        self.0.borrow().state
    }

    pub fn phase(&self) -> Phase {
        self.state().phase
    }

    /// Waits for the next change of state or progress. Returns false when there will be none.
    ///
    /// Cancel safe.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }

    /// Waits for a state that is `wanted`, which may be the present one. Never resolves where none comes.
    ///
    /// Cancel safe.
    pub async fn wait_for<T>(&mut self, mut wanted: impl FnMut(&Snapshot) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(&self.0.borrow_and_update()) {
                return found;
            }
            if !self.changed().await {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Snapshot {
    /// How long the phase has lasted.
    pub fn age(&self) -> Duration {
        self.history.since(history::PHASE).elapsed()
    }

    /// What led to the phase.
    pub fn reason(&self) -> &str {
        self.history.reason(history::PHASE)
    }
}
