//! The server's life, published: one state machine that everyone reads and few may move.
//!
//! `phase` is the pure table; `Tx` and `Rx` are the two ends of the channel that carries it; `drain` counts what a
//! shutdown must not lose.

pub mod drain;
pub mod phase;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub use phase::{Event, Phase};

/// What is true now. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub phase: Phase,
    pub since: Instant,
    /// Why the last transition happened.
    pub reason: Arc<str>,
    /// What is being done on the way to `serving`, e.g. `reading digits/1`.
    pub stage: Arc<str>,
    /// How much of the stage is done, from 0 to 1.
    pub progress: f32,
}

/// The end that moves the machine.
#[derive(Clone)]
pub struct Tx(Arc<watch::Sender<Snapshot>>);

/// The end that reads it. Reading takes no lock that inference ever holds.
#[derive(Clone)]
pub struct Rx(watch::Receiver<Snapshot>);

/// A machine in `starting`.
pub fn channel() -> (Tx, Rx) {
    let snapshot = Snapshot {
        phase: Phase::Starting,
        since: Instant::now(),
        reason: "process started".into(),
        stage: "".into(),
        progress: 0.0,
    };
    let (tx, rx) = watch::channel(snapshot);
    (Tx(Arc::new(tx)), Rx(rx))
}

impl Tx {
    /// Moves the machine if the table allows it, and logs the transition. Returns whether it moved.
    pub fn apply(&self, event: Event, reason: &str) -> bool {
        let mut transition = None;
        self.0.send_if_modified(|snapshot| {
            let Some(next) = snapshot.phase.next(event) else { return false };
            transition = Some((snapshot.phase, next, snapshot.age().as_secs_f64()));
            *snapshot =
                Snapshot { phase: next, since: Instant::now(), reason: reason.into(), stage: "".into(), progress: 0.0 };
            true
        });
        // Not in the closure: it holds the channel's lock, which probes read under, and a log line may block.
        if let Some((from, to, seconds)) = transition {
            tracing::info!(%from, %to, reason, seconds, "transition");
        } else {
            tracing::debug!(?event, "event ignored in this phase");
        }
        transition.is_some()
    }

    /// Says what is being done now, and how much of it is done (0 to 1).
    pub fn progress(&self, stage: &Arc<str>, progress: f32) {
        self.0.send_if_modified(|snapshot| {
            // A loader thread may still be at work when a drain has begun.
            let on_the_way_up = matches!(snapshot.phase, Phase::Starting | Phase::Loading | Phase::Warming);
            if on_the_way_up {
                snapshot.stage = stage.clone();
                snapshot.progress = progress;
            }
            on_the_way_up
        });
    }
}

impl Rx {
    pub fn snapshot(&self) -> Snapshot {
        self.0.borrow().clone()
    }

    pub fn phase(&self) -> Phase {
        self.0.borrow().phase
    }

    /// Waits for the next change of phase or progress. Returns false when there will be none.
    ///
    /// Cancel safe.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

impl Snapshot {
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }
}
