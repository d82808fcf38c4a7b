//! How a request comes through its batches: when, and with whom. Shared by whoever handles the request, who may leave
//! before it is through, and by the jobs that its rows become.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::telemetry::trace::Place;

#[derive(Debug, Default)]
pub struct Passage {
    /// The request's place in a trace, where that is kept.
    pub trace: Option<Place>,
    so_far: Mutex<SoFar>,
}

/// Nothing is known of a request that no worker has taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoFar {
    /// When a worker took it, or the first part of it.
    pub taken: Option<Instant>,
    /// When the outputs of its last part were there, or that had failed.
    pub computed: Option<Instant>,
    /// How large its last batch was.
    pub rows: usize,
    /// The span of its last batch, where some request in that is traced.
    pub batch: Option<Place>,
}

impl Passage {
    pub fn new(trace: Option<Place>) -> Self {
        Self { trace, so_far: Mutex::default() }
    }

    pub fn so_far(&self) -> SoFar {
        *self.lock()
    }

    /// A worker takes it, or a part of it.
    pub(crate) fn take(&self, now: Instant, rows: usize, batch: Option<Place>) {
        let mut so_far = self.lock();
        *so_far = SoFar { taken: so_far.taken.or(Some(now)), computed: None, rows, batch };
    }

    /// It is computed or has failed, or a part of it.
    pub(crate) fn end(&self, now: Instant) {
        let mut so_far = self.lock();
        so_far.computed = so_far.taken.map(|_| now);
    }

    /// Copies in and out: a panic leaves nothing half done.
    fn lock(&self) -> std::sync::MutexGuard<'_, SoFar> {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
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
        let (passage, batch) = (Passage::default(), Some(Place::root()));
        passage.take(at(1), 4, None);
        passage.end(at(5));
        passage.take(at(3), 2, batch);
        let under_way = SoFar { taken: Some(at(1)), computed: None, rows: 2, batch };
        assert_eq!(passage.so_far(), under_way);
        passage.end(at(7));
        assert_eq!(passage.so_far(), SoFar { computed: Some(at(7)), ..under_way });
    }

    #[test]
    fn whoever_is_refused_was_never_computed() {
        let refused = Passage::default();
        refused.end(Instant::now());
        assert_eq!(refused.so_far(), SoFar::default());
    }
}
