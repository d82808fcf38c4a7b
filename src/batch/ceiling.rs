//! The largest batch for which a device has shown to have memory.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows. It starts without a limit, and only falls.
#[derive(Debug)]
pub(super) struct Ceiling(AtomicUsize);

impl Default for Ceiling {
    fn default() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }
}

impl Ceiling {
    /// What of `max_size` rows it leaves.
    pub(super) fn of(&self, max_size: usize) -> usize {
        self.0.load(Ordering::Relaxed).min(max_size)
    }

    /// Falls to `rows`; false where it was as low already.
    pub(super) fn lower(&self, rows: usize) -> bool {
        self.0.fetch_min(rows, Ordering::Relaxed) > rows
    }
}
