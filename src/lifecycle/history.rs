//! What has happened so far: the last transitions, how often each kind occurred, and since when things are as they are.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Fault, State};

/// The subject that is the server's phase.
pub(super) const PHASE: &str = "phase";
/// The subject that is whether any model serves.
pub(super) const MODELS: &str = "models";

/// How many transitions are kept.
const KEPT: usize = 100;

/// Whether `subject` is the phase, the models or a fault, so that nothing else may be called so.
pub fn is_taken(subject: &str) -> bool {
    subject == PHASE || subject == MODELS || Fault::ALL.iter().any(|fault| fault.name() == subject)
}

/// One change of one thing.
#[derive(Clone, Debug)]
pub struct Transition {
    pub at: SystemTime,
    /// `phase`, `models`, the fault's name, or the dependency's: no two are the same.
    pub subject: Arc<str>,
    pub from: &'static str,
    pub to: &'static str,
    pub reason: Arc<str>,
    /// How long `from` had lasted.
    pub lasted: Duration,
    /// All that was true once it was made.
    pub after: State,
}

#[derive(Clone, Debug)]
pub struct History {
    started: Instant,
    began: SystemTime,
    last: VecDeque<Transition>,
    latest: BTreeMap<Arc<str>, Latest>,
    counts: BTreeMap<(Arc<str>, &'static str), u64>,
}

/// The latest change of one thing, kept for as long as it is the latest.
#[derive(Clone, Debug)]
struct Latest {
    at: Instant,
    reason: Arc<str>,
}

impl History {
    /// Of a process that starts now.
    pub(super) fn new() -> Self {
        let started = Instant::now();
        let phase = Latest { at: started, reason: "process started".into() };
        let latest = [(PHASE.into(), phase)].into();
        Self { started, began: SystemTime::now(), last: VecDeque::new(), latest, counts: BTreeMap::new() }
    }

    pub(super) fn record(
        &mut self,
        subject: Arc<str>,
        (from, to): (&'static str, &'static str),
        reason: Arc<str>,
        after: State,
    ) -> Transition {
        let lasted = self.since(&subject).elapsed();
        self.latest.insert(subject.clone(), Latest { at: Instant::now(), reason: reason.clone() });
        *self.counts.entry((subject.clone(), to)).or_default() += 1;
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        let transition = Transition { at: SystemTime::now(), subject, from, to, reason, lasted, after };
        self.last.push_back(transition.clone());
        transition
    }

    /// The last [`KEPT`] transitions, the oldest first.
    pub fn last(&self) -> impl DoubleEndedIterator<Item = &Transition> + ExactSizeIterator {
        self.last.iter()
    }

    /// When the process started, which tells it from the one before.
    pub fn began(&self) -> SystemTime {
        self.began
    }

    /// When `subject` last changed; the start of the process where it never did.
    pub fn since(&self, subject: &str) -> Instant {
        self.latest.get(subject).map_or(self.started, |latest| latest.at)
    }

    /// Why `subject` last changed; empty where it never did.
    pub fn reason(&self, subject: &str) -> &str {
        self.latest.get(subject).map_or("", |latest| &latest.reason)
    }

    /// How often each subject has come to each state.
    pub fn counts(&self) -> impl Iterator<Item = (&str, &'static str, u64)> {
        self.counts.iter().map(|((subject, to), count)| (&**subject, *to, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Dependencies;

    #[test]
    fn the_last_hundred_are_kept_and_all_are_counted() {
        let mut history = History::new();
        let state = State::new(Dependencies::default());
        for _ in 0..KEPT {
            history.record("hung".into(), ("clear", "raised"), "a batch runs".into(), state);
            history.record("hung".into(), ("raised", "clear"), "it returned".into(), state);
        }
        assert_eq!(history.last().count(), KEPT);
        assert_eq!(history.counts().collect::<Vec<_>>(), [("hung", "clear", 100), ("hung", "raised", 100)]);
        assert_eq!(history.last().next_back().map(|last| last.to), Some("clear"));
        assert!(history.since("hung") > history.since(PHASE));
        assert_eq!((history.reason("hung"), history.reason(PHASE)), ("it returned", "process started"));
    }

    #[test]
    fn the_phase_and_the_faults_have_their_names_for_themselves() {
        assert!(["phase", "models", "hung", "device_lost"].into_iter().all(is_taken));
        assert!(!is_taken("redis://cache:6379"));
    }
}
