//! How a request came through its batch: when, and with whom.

use std::time::Instant;

use crate::telemetry::trace::Place;

/// Nothing of it is known of a request that no worker took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// When a worker took it, or the first part of it.
    pub taken: Option<Instant>,
    /// When its outputs were there, or it had failed.
    pub computed: Option<Instant>,
    /// Of the batch that it was in, or its last part was.
    pub rows: usize,
    /// That of the batch, in a trace of its own; only where one of its requests is traced.
    pub batch: Option<Place>,
}

impl Passage {
    /// A worker takes it.
    pub(super) fn take(&mut self, now: Instant, rows: usize, batch: Option<Place>) {
        *self = Self { taken: Some(now), computed: None, rows, batch };
    }

    /// It is computed, or failed; a request that nobody took is refused.
    pub(super) fn end(&mut self, now: Instant) {
        self.computed = self.taken.map(|_| now);
    }

    /// Of a request whose other part came through like this.
    pub(super) fn join(&mut self, later: Self) {
        let first = self.taken.into_iter().chain(later.taken).min();
        *self = Self { taken: first, computed: self.computed.max(later.computed), ..later };
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_request_in_parts_is_taken_with_the_first_and_computed_with_the_last() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let part =
            |taken, computed, rows| Passage { taken: Some(at(taken)), computed: Some(at(computed)), rows, batch: None };
        let mut whole = Passage::default();
        for part in [part(2, 5, 4), part(1, 9, 3), part(3, 7, 2)] {
            whole.join(part);
        }
        assert_eq!(whole, part(1, 9, 2));
    }

    #[test]
    fn whoever_is_refused_was_never_computed() {
        let mut refused = Passage::default();
        refused.end(Instant::now());
        assert_eq!(refused, Passage::default());
    }
}
