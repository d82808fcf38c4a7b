//! Memory for requests, bounded in sum and used again: bodies while they are read, and the tensors that come of them.
//!
//! A thousand clients that send slowly, or a thousand requests that wait for a batch, hold no more than the pool's limit.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Buffers below this many bytes are left to the allocator, which is as quick.
const SMALLEST: usize = 16 << 10;
/// A buffer above this many bytes goes back to the system as soon as it is free: a large body would lie idle beside the
/// tensor that came of it, and to get its memory anew costs little beside reading it.
const LARGEST: usize = 16 << 20;
/// Bytes that a pool keeps for later while nobody uses them, at most, or a quarter of its limit where that is less; what
/// is above goes back to the system.
const MOST_IDLE: usize = 64 << 20;

/// A bounded amount of memory. Clones share it.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
    idle: Mutex<Idle>,
}

#[derive(Debug)]
struct Idle {
    /// By capacity: those of 2^n bytes are at n.
    buffers: [Vec<Vec<u8>>; usize::BITS as usize],
    bytes: usize,
}

/// The pool's limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("requests hold all of the {limit} bytes that they may hold together")]
pub struct Full {
    pub limit: usize,
}

impl Pool {
    /// A pool that lends at most `limit` bytes at a time.
    pub fn new(limit: usize) -> Self {
        let idle = Idle { buffers: [const { Vec::new() }; usize::BITS as usize], bytes: 0 };
        Self(Arc::new(Inner { limit, used: AtomicUsize::new(0), idle: Mutex::new(idle) }))
    }

    /// Bytes that are lent now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// An empty buffer with room for `capacity` bytes or more.
    pub fn take(&self, capacity: usize) -> Result<Buffer, Full> {
        let capacity = rounded(capacity).ok_or(Full { limit: self.0.limit })?;
        let charge = self.charge(capacity)?;
        let bytes = self.0.reuse(capacity).unwrap_or_else(|| Vec::with_capacity(capacity));
        Ok(Buffer { bytes, charge })
    }

    /// Counts bytes that lie elsewhere, such as in a connection's read buffer, for as long as they are used.
    pub fn count(&self, bytes: Bytes) -> Result<Bytes, Full> {
        let charge = self.charge(bytes.len())?;
        Ok(Bytes::from_owner(Counted { bytes, _charge: charge }))
    }

    /// Counts bytes that somebody else holds, until the charge is dropped.
    pub fn charge(&self, bytes: usize) -> Result<Charge, Full> {
        let before = self.0.used.fetch_add(bytes, Ordering::Relaxed);
        let charge = Charge { pool: self.clone(), bytes };
        if before.saturating_add(bytes) > self.0.limit { Err(Full { limit: self.0.limit }) } else { Ok(charge) }
    }
}

/// Powers of two from [`SMALLEST`] on, so that a buffer fits whoever asks next; `None` beyond all memory.
fn rounded(capacity: usize) -> Option<usize> {
    if capacity < SMALLEST { Some(capacity) } else { capacity.checked_next_power_of_two() }
}

impl Inner {
    fn reuse(&self, capacity: usize) -> Option<Vec<u8>> {
        if capacity < SMALLEST {
            return None;
        }
        let mut idle = self.lock();
        let buffer = idle.buffers[capacity.ilog2() as usize].pop()?;
        idle.bytes -= buffer.capacity();
        Some(buffer)
    }

    fn keep(&self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if !(SMALLEST..=LARGEST).contains(&capacity) || !capacity.is_power_of_two() {
            return;
        }
        let mut idle = self.lock();
        if idle.bytes + capacity <= MOST_IDLE.min(self.limit / 4) {
            buffer.clear();
            idle.bytes += capacity;
            idle.buffers[capacity.ilog2() as usize].push(buffer);
        }
    }

    /// A panic elsewhere leaves the lists as they were between two operations: still good.
    fn lock(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that count against a pool until this is dropped.
#[derive(Debug)]
pub struct Charge {
    pool: Pool,
    bytes: usize,
}

impl Charge {
    fn join(&mut self, mut more: Self) {
        self.bytes += std::mem::take(&mut more.bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.pool.0.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Growing bytes of a pool; dropped, they go back to it.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    charge: Charge,
}

impl Buffer {
    /// Makes room for `capacity` bytes in all.
    ///
    /// A body that grows leaves no trail of smaller buffers: where none is idle that is large enough, the system moves this
    /// one.
    pub fn reserve(&mut self, capacity: usize) -> Result<(), Full> {
        let held = self.bytes.capacity();
        if capacity <= held {
            return Ok(());
        }
        let pool = self.charge.pool.clone();
        let capacity = rounded(capacity).ok_or(Full { limit: pool.0.limit })?;
        let more = pool.charge(capacity - held)?;
        match pool.0.reuse(capacity) {
            Some(mut larger) => {
                larger.extend_from_slice(&self.bytes);
                self.bytes = larger;
            }
            None => self.bytes.reserve_exact(capacity - self.bytes.len()),
        }
        self.charge.join(more);
        Ok(())
    }

    /// Appends what there is room for by [`Pool::take`] or [`Self::reserve`].
    pub fn extend_from_slice(&mut self, more: &[u8]) {
        debug_assert!(self.bytes.len() + more.len() <= self.bytes.capacity(), "room was made before");
        self.bytes.extend_from_slice(more);
    }

    /// Makes of every `N` bytes the `M` that `narrow` says, in their place; `M` is at most `N`.
    pub fn narrow<const N: usize, const M: usize>(&mut self, narrow: impl Fn([u8; N]) -> [u8; M]) {
        let elements = self.bytes.len() / N;
        for element in 0..elements {
            let Some(from) = self.bytes[element * N..].first_chunk::<N>() else { break };
            let to = narrow(*from);
            self.bytes[element * M..][..M].copy_from_slice(&to);
        }
        self.bytes.truncate(elements * M);
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.charge.pool.0.keep(std::mem::take(&mut self.bytes));
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<Buffer> for Bytes {
    fn from(buffer: Buffer) -> Self {
        Self::from_owner(buffer)
    }
}

struct Counted {
    bytes: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lent_counts_until_the_last_tensor_of_it_is_gone() {
        let pool = Pool::new(100_000);
        let mut buffer = pool.take(20_000).unwrap();
        assert_eq!((pool.used(), buffer.capacity()), (32_768, 32_768));
        buffer.extend_from_slice(&vec![7; 20_000]);
        let whole = Bytes::from(buffer);
        let slice = whole.slice(5..9);
        drop(whole);
        assert_eq!((pool.used(), &slice[..]), (32_768, &[7; 4][..]));
        drop(slice);
        assert_eq!(pool.used(), 0);
        let counted = pool.count(Bytes::from_static(b"abc")).unwrap();
        assert_eq!(pool.used(), 3);
        drop(counted);
        assert_eq!(pool.used(), 0);
    }

    #[test]
    fn nobody_gets_more_than_the_limit_and_a_refusal_costs_nothing() {
        let pool = Pool::new(40_000);
        let mut first = pool.take(100).unwrap();
        first.extend_from_slice(&[1; 100]);
        assert_eq!(first.reserve(60_000), Err(Full { limit: 40_000 }));
        assert_eq!(first.as_ref(), [1; 100]);
        assert_eq!(pool.take(usize::MAX).unwrap_err(), Full { limit: 40_000 });
        assert_eq!(pool.count(Bytes::from(vec![0; 39_901])).unwrap_err(), Full { limit: 40_000 });
        assert_eq!(pool.used(), 100);
        first.reserve(20_000).unwrap();
        assert_eq!((first.as_ref().len(), pool.used()), (100, 32_768));
    }

    #[test]
    fn a_buffer_is_used_again_empty() {
        let pool = Pool::new(1 << 20);
        let mut buffer = pool.take(50_000).unwrap();
        buffer.extend_from_slice(&vec![9; 50_000]);
        let place = buffer.as_ref().as_ptr();
        drop(buffer);
        let again = pool.take(33_000).unwrap();
        assert_eq!((again.as_ref().as_ptr(), again.len(), again.capacity()), (place, 0, 65_536));
    }

    #[test]
    fn what_is_kept_for_later_is_bounded() {
        let pool = Pool::new(1 << 30);
        let lent: Vec<_> = (0..10).map(|_| pool.take(16 << 20).unwrap()).collect();
        drop(pool.take(17 << 20).unwrap());
        assert_eq!((pool.0.lock().bytes, pool.used()), (0, 160 << 20));
        drop(lent);
        assert_eq!((pool.used(), pool.0.lock().bytes), (0, MOST_IDLE));
    }
}
