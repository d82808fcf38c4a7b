//! Looks, from a thread of its own, whether work goes on: every worker's, and the async runtime's. It asks nobody and
//! waits for nobody, so that it sees a hang of anybody.
//!
//! Time is counted in the watchdog's own turns: a process that was stopped or throttled as a whole did not hang.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::lifecycle::pulse::{Pulse, Pulses};
use crate::lifecycle::{Event, Fault, Tx};

/// Between two looks.
const TURN: Duration = Duration::from_millis(100);
/// A turn that took longer counts as this: the watchdog itself was not running.
const LONGEST_TURN: Duration = Duration::from_millis(200);
/// Between two beats of the runtime's heart.
const BEAT: Duration = Duration::from_millis(100);
/// The runtime may be silent for so long: fifty beats, and half of a kubelet's usual period.
const SILENCE: Duration = Duration::from_secs(5);

/// What the watchdog looks at.
pub struct Watchdog {
    pub lifecycle: Tx,
    /// The workers.
    pub pulses: Pulses,
    /// The async runtime's heart, which [`beat`] keeps beating.
    pub heart: Pulse,
    /// The longest that a batch may run.
    pub stall_limit: Duration,
}

/// How long the oldest batch has been running, as the watchdog last saw it. Clones share it.
#[derive(Clone, Default)]
pub struct Oldest(Arc<AtomicU64>);

impl Oldest {
    pub fn age(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, age: Duration) {
        self.0.store(u64::try_from(age.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Shows that the runtime it runs on still turns.
pub async fn beat(heart: Pulse) {
    let mut interval = tokio::time::interval(BEAT);
    loop {
        interval.tick().await;
        heart.beat();
    }
}

impl Watchdog {
    /// Looks until the process ends.
    pub fn spawn(self) -> std::io::Result<Oldest> {
        let oldest = Oldest::default();
        let published = oldest.clone();
        thread::Builder::new().name("watchdog".to_owned()).spawn(move || self.look_forever(&published))?;
        Ok(oldest)
    }

    fn look_forever(self, oldest: &Oldest) {
        let (mut workers, mut heart) = (BTreeMap::new(), Stillness::default());
        let mut looked = Instant::now();
        loop {
            thread::sleep(TURN);
            let turn = looked.elapsed().min(LONGEST_TURN);
            looked = Instant::now();
            let (age, who) = self.oldest(&mut workers, turn);
            oldest.set(age);
            self.judge(Fault::Hung, age > self.stall_limit, || {
                format!("a batch of worker {who} has been running for more than --stall-limit {:?}", self.stall_limit)
            });
            let silence = heart.look(self.heart.count(), turn);
            self.judge(Fault::RuntimeStalled, silence > SILENCE, || {
                format!("the async runtime has not turned for {SILENCE:?}")
            });
        }
    }

    /// The longest that any worker has been at work without progress, and who it is.
    fn oldest(&self, known: &mut BTreeMap<u64, Stillness>, turn: Duration) -> (Duration, Arc<str>) {
        let mut oldest = (Duration::ZERO, "".into());
        let registered = self.pulses.all();
        known.retain(|id, _| registered.iter().any(|worker| worker.id == *id));
        for worker in registered {
            let count = worker.pulse.count();
            let still = known.entry(worker.id).or_default().look(count, turn);
            if Pulse::is_work(count) && still > oldest.0 {
                oldest = (still, worker.name);
            }
        }
        oldest
    }

    /// Raises or clears `fault`, unless it is so already.
    fn judge(&self, fault: Fault, is_so: bool, reason: impl FnOnce() -> String) {
        match (self.lifecycle.state().faults.contains(fault), is_so) {
            (false, true) => self.lifecycle.apply(Event::Raised(fault), &reason()),
            (true, false) => self.lifecycle.apply(Event::Cleared(fault), "there is progress again"),
            _ => false,
        };
    }
}

/// How long a count has stood still.
#[derive(Default)]
struct Stillness {
    seen: u64,
    lasted: Duration,
}

impl Stillness {
    /// Looks at `count` a `turn` after the last look.
    fn look(&mut self, count: u64, turn: Duration) -> Duration {
        self.lasted = if count == self.seen { self.lasted + turn } else { Duration::ZERO };
        self.seen = count;
        self.lasted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle;

    #[test]
    fn only_work_without_progress_grows_old() {
        let (lifecycle, _rx) = lifecycle::channel([]);
        let pulses = Pulses::default();
        let watchdog = Watchdog {
            lifecycle,
            pulses: pulses.clone(),
            heart: Pulse::default(),
            stall_limit: Duration::from_secs(30),
        };
        let worker = |name: &str| {
            let pulse = Pulse::default();
            pulses.register(name, &pulse);
            pulse
        };
        let (idle, busy, stuck) = (worker("idle"), worker("busy"), worker("stuck"));
        let _work = (busy.work(), stuck.work());
        let mut known = BTreeMap::new();
        let mut look = || watchdog.oldest(&mut known, TURN);
        for _ in 0..10 {
            busy.beat();
            look();
        }
        // The first look is when the work was first seen.
        let (age, who) = look();
        assert_eq!((age, &*who), (TURN * 10, "stuck"));
        stuck.beat();
        idle.beat();
        assert_eq!(&*look().1, "busy");
        busy.beat();
        let newcomer = worker("newcomer");
        let _more = newcomer.work();
        assert_eq!((look().0, look().0), (TURN, TURN * 2));
    }

    #[test]
    fn a_fault_is_raised_once_and_cleared_once() {
        let (lifecycle, rx) = lifecycle::channel([]);
        let watchdog = Watchdog {
            lifecycle,
            pulses: Pulses::default(),
            heart: Pulse::default(),
            stall_limit: Duration::from_secs(30),
        };
        for is_so in [false, true, true, false, false] {
            watchdog.judge(Fault::Hung, is_so, || "a batch runs".to_owned());
            assert_eq!(rx.state().faults.contains(Fault::Hung), is_so);
        }
        assert_eq!(rx.snapshot().history.last().count(), 2);
    }
}
