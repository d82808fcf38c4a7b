//! When a kubelet finds a pod ready: its probes' ticks, and its own rhythm.
//!
//! Probes tick from the pod's first sync, not from the container's start. What a probe finds reaches the pod's status by
//! a sync of the pod, and a sync waits until the kubelet has listed its containers (once a second, all pods together)
//! after the sync before. So Ready follows a startup probe's success at once, or up to a second later.

use std::time::Duration;

/// From a pod's creation to its first sync, and what any volume adds, the mounted token included.
/// (Both measured on 1.36, p50.)
pub(super) const FIRST_SYNC: Duration = Duration::from_millis(20);
pub(super) const VOLUME: Duration = Duration::from_millis(300);
/// A kubelet lists its containers every second, and the listing takes a few milliseconds. (Measured on 1.36.)
const LISTING: Duration = Duration::from_millis(1_003);
/// From a container's start until the pod's status says so. (Measured on 1.36, p50.)
const RUNNING: Duration = Duration::from_millis(25);
/// From a tick until the probe's answer is known, and from there to a sync. (Measured on 1.36, p50.)
const ANSWER: Duration = Duration::from_millis(8);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    pub delay: Duration,
    pub period: Duration,
    pub successes: u32,
    pub failures: u32,
}

/// The probes that decide on traffic. (Liveness decides nothing here: torchpod answers it from its first milliseconds.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    pub startup: Option<Probe>,
    pub readiness: Option<Probe>,
}

/// How a version starts, counted from its container's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// `/startup` and `/ready` pass from then on.
    Serves(Duration),
    /// `/startup` passes from then on, `/ready` never.
    NeverReady(Duration),
    Crashes,
}

/// What becomes of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Ready(Duration),
    Never,
    /// Its startup probe failed once too often; the next container fares the same.
    Killed(Duration),
}

/// A kubelet, as far as its rhythm is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Kubelet {
    /// One of the times at which it lists its containers.
    pub listing: Duration,
}

impl Kubelet {
    /// The first listing after a time.
    pub fn listing_after(self, time: Duration) -> Duration {
        let base = time_in(self.listing, LISTING);
        let passed = if time < base { 0 } else { (time - base).as_nanos() / LISTING.as_nanos() + 1 };
        base + LISTING * u32::try_from(passed).unwrap_or(u32::MAX)
    }

    /// When a sync that is asked for at `at` happens, after the one at `last`.
    fn sync(self, last: Duration, at: Duration) -> Duration {
        let fresh = self.listing_after(last);
        if fresh <= at { at } else { fresh.max(at) }
    }

    /// What becomes of a pod whose container starts at `started`, and whose probes tick from `first` on.
    pub fn fate(self, probes: &Probes, first: Duration, started: Duration, load: Load) -> Fate {
        let (passes, is_ready) = match load {
            Load::Serves(after) => (started + after, true),
            Load::NeverReady(after) => (started + after, false),
            Load::Crashes => return Fate::Never,
        };
        let running = started + RUNNING;
        let mut syncs = Syncs { kubelet: self, last: started, all: Vec::new() };
        let noticed = self.listing_after(started);
        let tick = probes.startup.or(probes.readiness).map(|probe| tick(first, probe.period, running));
        // The container's start is synced when it is listed, and so is the first that a probe knows of it.
        let mut asked = [Some(noticed), tick];
        asked.sort();
        asked.into_iter().flatten().for_each(|at| syncs.ask(at));
        let mut known = running;
        if let Some(startup) = probes.startup {
            let ask = tick_from(first, startup.period, running.max(started + startup.delay));
            let pass = tick_from(first, startup.period, ask.max(passes));
            let failed = (pass - ask).as_nanos() / startup.period.as_nanos().max(1);
            if failed >= u128::from(startup.failures) {
                return Fate::Killed(ask + startup.period * startup.failures.saturating_sub(1));
            }
            known = pass + ANSWER;
            if syncs.last < known {
                syncs.ask(known);
            }
        }
        let triggers: Vec<Duration> = syncs.all.into_iter().filter(|sync| *sync >= known).collect();
        match probes.readiness {
            None => Fate::Ready(triggers.first().copied().filter(|_| probes.startup.is_some()).unwrap_or(known)),
            Some(_) if !is_ready => Fate::Never,
            Some(readiness) => {
                let since = Since { first, known, delayed: started + readiness.delay, passes };
                Fate::Ready(since.ready(readiness, &triggers) + ANSWER)
            }
        }
    }
}

struct Syncs {
    kubelet: Kubelet,
    last: Duration,
    all: Vec<Duration>,
}

impl Syncs {
    fn ask(&mut self, at: Duration) {
        self.last = self.kubelet.sync(self.last, at);
        self.all.push(self.last);
    }
}

struct Since {
    first: Duration,
    known: Duration,
    delayed: Duration,
    passes: Duration,
}

impl Since {
    /// A sync asks at once, and the next tick is a period after that.
    fn ready(&self, probe: Probe, triggers: &[Duration]) -> Duration {
        let mut triggers = triggers.iter().copied().peekable();
        let mut next = tick_from(self.first, probe.period, self.known);
        let mut successes = 0;
        loop {
            let now = triggers.next_if(|trigger| *trigger <= next).unwrap_or(next);
            next = now + probe.period;
            if now >= self.delayed && now >= self.passes {
                successes += 1;
            }
            if successes >= probe.successes.max(1) {
                return now;
            }
        }
    }
}

/// The first tick after a time.
fn tick(first: Duration, period: Duration, after: Duration) -> Duration {
    tick_from(first, period, after + Duration::from_nanos(1))
}

/// The first tick at a time or after it.
fn tick_from(first: Duration, period: Duration, from: Duration) -> Duration {
    let period = period.max(Duration::from_millis(1));
    let ticks = from.saturating_sub(first).as_nanos().div_ceil(period.as_nanos());
    first + period * u32::try_from(ticks).unwrap_or(u32::MAX)
}

/// The earliest time that lies whole periods from `time`.
fn time_in(time: Duration, period: Duration) -> Duration {
    let nanos = time.as_nanos() % period.as_nanos();
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn probe(period: u64, successes: u32) -> Probe {
        Probe { delay: Duration::ZERO, period: ms(period), successes, failures: 60 }
    }

    const KUBELET: Kubelet = Kubelet { listing: Duration::from_millis(870) };

    fn ready(startup: Probe, readiness: Probe, load: u64) -> Fate {
        let probes = Probes { startup: Some(startup), readiness: Some(readiness) };
        KUBELET.fate(&probes, ms(30), ms(210), Load::Serves(ms(load)))
    }

    #[test]
    fn a_load_of_two_seconds_costs_three_and_one_of_one_and_a_half_as_much() {
        assert_eq!(ready(probe(1_000, 1), probe(1_000, 1), 2_000), Fate::Ready(ms(3_030 + 16)));
        // The sync before was after the last listing, so that this one waits for the next.
        assert_eq!(ready(probe(1_000, 1), probe(1_000, 1), 1_500), Fate::Ready(ms(870 + 2 * 1_003 + 8)));
    }

    #[test]
    fn a_second_success_is_a_period_after_the_first() {
        assert_eq!(ready(probe(1_000, 1), probe(1_000, 2), 500), Fate::Ready(ms(870 + 1_003 + 1_000 + 8)));
    }

    #[test]
    fn a_load_beyond_the_startup_budget_is_killed() {
        let startup = Probe { failures: 12, ..probe(5_000, 1) };
        assert_eq!(ready(startup, probe(5_000, 1), 75_000), Fate::Killed(ms(60_030)));
        assert!(matches!(ready(startup, probe(5_000, 1), 59_000), Fate::Ready(_)));
    }

    #[test]
    fn readiness_waits_for_its_delay_and_never_comes_to_what_never_serves() {
        let probes = Probes { startup: None, readiness: Some(Probe { delay: ms(10_000), ..probe(5_000, 1) }) };
        let Fate::Ready(at) = KUBELET.fate(&probes, ms(30), ms(210), Load::Serves(ms(0))) else { panic!("it gets ready") };
        assert!(at >= ms(10_210) && at < ms(15_300), "{at:?}");
        assert_eq!(KUBELET.fate(&probes, ms(30), ms(210), Load::NeverReady(ms(0))), Fate::Never);
    }

    #[test]
    fn without_probes_a_pod_is_ready_when_it_runs() {
        let fate = KUBELET.fate(&Probes::default(), ms(30), ms(210), Load::Serves(ms(9_000)));
        assert_eq!(fate, Fate::Ready(ms(235)));
    }
}
