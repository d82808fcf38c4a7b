//! The largest batch for which a device has shown to have memory.
//!
//! Counted in bytes of inputs: where row shapes differ, a few large rows must not keep the small ones apart.

use std::sync::atomic::{AtomicUsize, Ordering};

/// It starts without a limit, and only falls.
#[derive(Debug)]
pub(super) struct Ceiling(AtomicUsize);

impl Default for Ceiling {
    fn default() -> Self {
        Self(AtomicUsize::new(usize::MAX))
    }
}

impl Ceiling {
    /// How many rows of so many bytes it leaves of `max_size`; never less than one.
    pub(super) fn of(&self, max_size: usize, row_bytes: usize) -> usize {
        (self.0.load(Ordering::Relaxed) / row_bytes.max(1)).clamp(1, max_size.max(1))
    }

    /// Falls to `rows` rows of so many bytes; false where it is as low already.
    pub(super) fn lower(&self, rows: usize, row_bytes: usize) -> bool {
        let bytes = rows.saturating_mul(row_bytes);
        self.0.fetch_min(bytes, Ordering::Relaxed) > bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ceiling_only_falls_and_leaves_small_rows_their_batches() {
        let ceiling = Ceiling::default();
        assert_eq!(ceiling.of(32, 100), 32);
        assert!(ceiling.lower(8, 100));
        assert!(!ceiling.lower(8, 100) && !ceiling.lower(16, 100));
        for (row_bytes, rows) in [(100, 8), (99, 8), (50, 16), (10, 32), (0, 32), (400, 2), (801, 1)] {
            assert_eq!(ceiling.of(32, row_bytes), rows, "rows of {row_bytes} bytes");
        }
        assert_eq!(ceiling.of(4, 100), 4);
    }
}
