//! Signs of life: whoever works shows that it goes on, at the cost of an atomic increment, and `health::watchdog` looks.
//!
//! The number is odd during work and even at rest. It says nothing of time: whoever looks twice knows whether there was
//! progress between.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

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

/// The pulses of the workers that serve, by name. Clones share the list.
///
/// A worker is on it from [`Self::register`] until its last pulse is dropped, with its thread: nobody needs to be told
/// that it has ended.
#[derive(Clone, Default)]
pub struct Pulses(Arc<Mutex<List>>);

#[derive(Default)]
struct List {
    next: u64,
    registered: Vec<(u64, Arc<str>, Weak<AtomicU64>)>,
}

/// A registered pulse.
pub struct Registered {
    /// No two that were ever registered have the same.
    pub id: u64,
    pub name: Arc<str>,
    pub pulse: Pulse,
}

impl Pulses {
    /// From now on, whoever looks sees this worker.
    pub fn register(&self, name: &str, pulse: &Pulse) {
        let mut list = self.lock();
        let id = list.next;
        list.next += 1;
        list.registered.push((id, name.into(), Arc::downgrade(&pulse.0)));
    }

    /// Those that are registered and have not ended, in order.
    pub fn all(&self) -> Vec<Registered> {
        let mut list = self.lock();
        list.registered.retain(|(.., pulse)| pulse.strong_count() > 0);
        let living = list.registered.iter().filter_map(|(id, name, pulse)| {
            Some(Registered { id: *id, name: name.clone(), pulse: Pulse(pulse.upgrade()?) })
        });
        living.collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_ends_when_it_is_dropped_and_each_beat_is_told_apart() {
        let pulses = Pulses::default();
        let pulse = Pulse::default();
        pulses.register("digits-0", &pulse);
        let seen = pulses.all().remove(0).pulse;
        assert!(!Pulse::is_work(seen.count()));
        let work = pulse.work();
        let begun = seen.count();
        pulse.beat();
        assert!(Pulse::is_work(begun) && Pulse::is_work(seen.count()) && begun != seen.count());
        drop(work);
        assert!(!Pulse::is_work(seen.count()));
    }

    #[test]
    fn a_worker_is_seen_from_its_registration_until_it_ends() {
        let (pulses, pulse, other) = (Pulses::default(), Pulse::default(), Pulse::default());
        assert!(pulses.all().is_empty());
        pulses.register("digits@1-0", &pulse);
        pulses.register("digits@2-0", &other);
        let names =
            |pulses: &Pulses| pulses.all().iter().map(|seen| (seen.id, seen.name.to_string())).collect::<Vec<_>>();
        assert_eq!(names(&pulses), [(0, "digits@1-0".to_owned()), (1, "digits@2-0".to_owned())]);
        drop(pulse);
        assert_eq!(names(&pulses), [(1, "digits@2-0".to_owned())]);
    }
}
