//! Signs of life: whoever works shows that it goes on, at the cost of an atomic increment, and `health::watchdog` looks.
//!
//! The number is odd during work and even at rest. It says nothing of time: whoever looks twice knows whether there was
//! progress between.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The signs of one worker. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

/// Work in progress. Dropped, even by a panic, it is over.
pub struct Work<'a>(&'a Pulse);

impl Pulse {
    /// Begins work.
    pub fn work(&self) -> Work<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Work(self)
    }

    /// Shows progress, within work or at rest.
    pub fn beat(&self) {
        self.0.fetch_add(2, Ordering::Relaxed);
    }

    /// The number that tells two beats apart.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether a `count` was taken during work.
    pub fn is_work(count: u64) -> bool {
        count % 2 == 1
    }
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The pulses of all workers, by name. Clones share the list.
#[derive(Clone, Default)]
pub struct Pulses(Arc<Mutex<Vec<Named>>>);

type Named = (Arc<str>, Pulse);

impl Pulses {
    /// A new worker's pulse.
    pub fn register(&self, name: &str) -> Pulse {
        let pulse = Pulse::default();
        self.lock().push((name.into(), pulse.clone()));
        pulse
    }

    /// Those registered so far, in order; their places never change.
    pub fn all(&self) -> Vec<Named> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Named>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_ends_when_it_is_dropped_and_each_beat_is_told_apart() {
        let pulses = Pulses::default();
        let pulse = pulses.register("digits-0");
        let seen = pulses.all().remove(0).1;
        assert!(!Pulse::is_work(seen.count()));
        let work = pulse.work();
        let begun = seen.count();
        pulse.beat();
        assert!(Pulse::is_work(begun) && Pulse::is_work(seen.count()) && begun != seen.count());
        drop(work);
        assert!(!Pulse::is_work(seen.count()));
    }
}
