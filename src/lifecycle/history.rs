//! What has happened so far: the last transitions, how often each kind occurred, and since when things are as they are.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How many transitions are kept.
pub const KEPT: usize = 100;

/// One change of one thing.
#[derive(Clone, Debug)]
pub struct Transition {
    pub at: SystemTime,
    /// `phase`, the fault's name, or the dependency's.
    pub subject: Arc<str>,
    pub from: &'static str,
    pub to: &'static str,
    pub reason: Arc<str>,
    /// How long `from` had lasted.
    pub lasted: Duration,
}

#[derive(Clone, Debug)]
pub struct History {
    started: Instant,
    last: VecDeque<Transition>,
    since: BTreeMap<Arc<str>, Instant>,
    counts: BTreeMap<(Arc<str>, &'static str), u64>,
}

impl History {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), last: VecDeque::new(), since: BTreeMap::new(), counts: BTreeMap::new() }
    }

    pub(super) fn record(&mut self, subject: Arc<str>, (from, to): (&'static str, &'static str), reason: Arc<str>) {
        let lasted = self.since(&subject).elapsed();
        self.since.insert(subject.clone(), Instant::now());
        *self.counts.entry((subject.clone(), to)).or_default() += 1;
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(Transition { at: SystemTime::now(), subject, from, to, reason, lasted });
    }

    /// The last [`KEPT`] transitions, the oldest first.
    pub fn last(&self) -> impl DoubleEndedIterator<Item = &Transition> {
        self.last.iter()
    }

    /// When `subject` last changed; the start of the process where it never did.
    pub fn since(&self, subject: &str) -> Instant {
        self.since.get(subject).copied().unwrap_or(self.started)
    }

    /// Why `subject` last changed; empty where it never did, or too long ago.
    pub fn reason(&self, subject: &str) -> Arc<str> {
        let last = self.last.iter().rev().find(|transition| *transition.subject == *subject);
        last.map(|transition| transition.reason.clone()).unwrap_or_default()
    }

    /// How often each subject has come to each state.
    pub fn counts(&self) -> impl Iterator<Item = (&str, &'static str, u64)> {
        self.counts.iter().map(|((subject, to), count)| (&**subject, *to, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hundred_are_kept_and_all_are_counted() {
        let mut history = History::new();
        for _ in 0..KEPT {
            history.record("hung".into(), ("clear", "raised"), "a batch runs".into());
            history.record("hung".into(), ("raised", "clear"), "it returned".into());
        }
        assert_eq!(history.last().count(), KEPT);
        assert_eq!(history.counts().collect::<Vec<_>>(), [("hung", "clear", 100), ("hung", "raised", 100)]);
        assert_eq!(history.last().next_back().map(|last| last.to), Some("clear"));
        assert!(history.since("hung") > history.since("phase"));
    }
}
