//! Rehearsed trouble: real delays, real hangs and real failures of the real parts, so that people can watch what their
//! cluster does and tests can hold a moment.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What `--chaos` asked for; the default is none of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chaos {
    /// Reading a model takes at least this long.
    pub load_delay: Duration,
    /// Added to every batch.
    pub batch_delay: Duration,
    /// Added to every batch that requests share, or behind which some wait: a version that is slow under load alone.
    pub crowd_delay: Duration,
    /// Of so many requests in a hundred, the computation fails.
    pub request_errors: u8,
    /// So long after serving began, the next batch never returns.
    pub hang_after: Option<Duration>,
    /// So long after serving began, the worker panics in the next batch.
    pub worker_panic_after: Option<Duration>,
    /// In how many batches from then on.
    pub worker_panics: u32,
    /// So long after serving began, the next batch loses its device.
    pub device_lost_after: Option<Duration>,
    /// So long after serving began, the async runtime stops turning.
    pub runtime_stall_after: Option<Duration>,
    /// How many of the models that are loaded while serving hang in their warm-up, from the first on.
    pub candidate_hangs: u32,
    /// Names or schemes of dependencies whose checks fail.
    pub dependencies_down: Vec<String>,
}

impl Default for Chaos {
    fn default() -> Self {
        Self {
            load_delay: Duration::ZERO,
            batch_delay: Duration::ZERO,
            crowd_delay: Duration::ZERO,
            request_errors: 0,
            hang_after: None,
            worker_panic_after: None,
            worker_panics: 1,
            device_lost_after: None,
            runtime_stall_after: None,
            candidate_hangs: 0,
            dependencies_down: Vec::new(),
        }
    }
}

/// What can be rehearsed in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Hang,
    Panic,
    DeviceLost,
}

/// As `--chaos` has it: only what was asked for.
impl std::fmt::Display for Chaos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let usual = Self::default();
        let time = |time: Duration| humantime::format_duration(time).to_string();
        let number = |number: u32, usual: u32| (number != usual).then(|| number.to_string());
        let parts = [
            ("load-delay", (self.load_delay != usual.load_delay).then(|| time(self.load_delay))),
            ("batch-delay", (self.batch_delay != usual.batch_delay).then(|| time(self.batch_delay))),
            ("crowd-delay", (self.crowd_delay != usual.crowd_delay).then(|| time(self.crowd_delay))),
            ("request-errors", (self.request_errors != 0).then(|| format!("{}%", self.request_errors))),
            ("hang-after", self.hang_after.map(time)),
            ("worker-panic-after", self.worker_panic_after.map(time)),
            ("worker-panics", number(self.worker_panics, usual.worker_panics)),
            ("device-lost-after", self.device_lost_after.map(time)),
            ("runtime-stall-after", self.runtime_stall_after.map(time)),
            ("candidate-hang", number(self.candidate_hangs, usual.candidate_hangs)),
        ];
        let parts = parts.into_iter().filter_map(|(key, value)| Some((key, value?)));
        let down = self.dependencies_down.iter().map(|name| ("dependency-down", name.clone()));
        let parts: Vec<_> = parts.chain(down).map(|(key, value)| format!("{key}={value}")).collect();
        f.write_str(&parts.join(","))
    }
}

impl std::str::FromStr for Chaos {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut chaos = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| expected(part))?;
            let time = || humantime::parse_duration(value).map_err(|_| format!("{part}: expected a time such as 10s"));
            let number = || value.parse().map_err(|_| format!("{part}: expected a number such as 3"));
            match key {
                "load-delay" => chaos.load_delay = time()?,
                "batch-delay" => chaos.batch_delay = time()?,
                "crowd-delay" => chaos.crowd_delay = time()?,
                "request-errors" => {
                    let share =
                        value.strip_suffix('%').and_then(|share| share.parse().ok()).filter(|share| *share <= 100);
                    chaos.request_errors = share.ok_or_else(|| format!("{part}: expected a share such as 5%"))?;
                }
                "hang-after" => chaos.hang_after = Some(time()?),
                "worker-panic-after" => chaos.worker_panic_after = Some(time()?),
                "worker-panics" => chaos.worker_panics = number()?,
                "candidate-hang" => chaos.candidate_hangs = number()?,
                "device-lost-after" => chaos.device_lost_after = Some(time()?),
                "runtime-stall-after" => chaos.runtime_stall_after = Some(time()?),
                "dependency-down" => chaos.dependencies_down.push(value.to_owned()),
                _ => return Err(expected(part)),
            }
        }
        Ok(chaos)
    }
}

fn expected(part: &str) -> String {
    format!(
        "{part}: expected load-delay, batch-delay, crowd-delay, request-errors, hang-after, worker-panic-after, \
         worker-panics, device-lost-after, runtime-stall-after, candidate-hang or dependency-down, such as load-delay=30s"
    )
}

impl Chaos {
    /// Sleeps through the share of the load delay that reading from `before` to `after` of `total` bytes takes, telling
    /// `progress` as it goes: a slow disk, in effect.
    pub fn throttle(&self, before: u64, after: u64, total: u64, progress: &mut dyn FnMut(u64)) {
        const STEP: Duration = Duration::from_millis(50);
        let read = after.saturating_sub(before);
        if read == 0 || total == 0 {
            return;
        }
        #[allow(clippy::cast_precision_loss)] // Good enough for a rehearsal.
        let share = self.load_delay.mul_f64(read as f64 / total as f64);
        let steps = share.as_millis() / STEP.as_millis();
        for step in 0..steps {
            std::thread::sleep(STEP);
            let part = u128::from(read) * step / steps;
            progress(before + u64::try_from(part).unwrap_or(read));
        }
        std::thread::sleep(share.saturating_sub(STEP * u32::try_from(steps).unwrap_or(0)));
    }
}

/// The trouble that batches are in for. Shared by all workers, so that each trouble comes as often as it was asked for.
#[derive(Debug, Default)]
pub struct Rehearsal {
    began: OnceLock<Instant>,
    /// Each trouble with its time after serving began, and in how many batches it is still to come.
    planned: Vec<(Trouble, Duration, AtomicU32)>,
    /// How many candidates are still to hang.
    candidate_hangs: AtomicU32,
    /// Of so many requests in a hundred, the computation fails.
    request_errors: u8,
    /// How many requests there were.
    requests: AtomicU32,
}

impl Rehearsal {
    pub fn of(chaos: &Chaos) -> Self {
        let planned = [
            (Trouble::Hang, chaos.hang_after, 1),
            (Trouble::Panic, chaos.worker_panic_after, chaos.worker_panics),
            (Trouble::DeviceLost, chaos.device_lost_after, 1),
        ];
        let planned = planned.into_iter().filter_map(|(trouble, after, times)| Some((trouble, after?, times.into())));
        let candidate_hangs = chaos.candidate_hangs.into();
        let request_errors = chaos.request_errors;
        Self { began: OnceLock::new(), planned: planned.collect(), candidate_hangs, request_errors, requests: 0.into() }
    }

    /// Takes out the requests whose computation is to fail: evenly spread, since chance would make small counts say
    /// anything.
    pub fn spoilt<T>(&self, requests: &mut Vec<T>) -> Vec<T> {
        let share = u32::from(self.request_errors);
        if share == 0 {
            return Vec::new();
        }
        let spoils = |_: &mut T| {
            let number = self.requests.fetch_add(1, Ordering::Relaxed) % 100;
            (number + 1) * share / 100 > number * share / 100
        };
        requests.extract_if(.., spoils).collect()
    }

    /// Whether the version that is about to be proved is to hang: one that is loaded while serving.
    pub fn candidate_hangs(&self) -> bool {
        self.began.get().is_some() && take_one(&self.candidate_hangs)
    }

    /// Serving begins now.
    pub fn begin(&self) {
        self.began.get_or_init(Instant::now);
    }

    /// What the batch that is cut now is in for.
    pub fn next(&self) -> Option<Trouble> {
        let began = self.planned.first().and_then(|_| self.began.get())?;
        let due = self.planned.iter().find(|(_, after, left)| began.elapsed() >= *after && take_one(left))?;
        Some(due.0)
    }
}

/// Whether there was one left to take.
fn take_one(left: &AtomicU32) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_and_anything_else_is_named() {
        let chaos: Chaos = "load-delay=30s,batch-delay=200ms,dependency-down=redis,hang-after=10s".parse().unwrap();
        let share: Chaos = "request-errors=5%".parse().unwrap();
        assert_eq!(share.request_errors, 5);
        assert_eq!((chaos.load_delay, chaos.batch_delay), (Duration::from_secs(30), Duration::from_millis(200)));
        assert_eq!((chaos.hang_after, chaos.worker_panics), (Some(Duration::from_secs(10)), 1));
        assert_eq!(chaos.dependencies_down, ["redis"]);
        for text in [
            "load-delay",
            "load-delay=soon",
            "fire=1s",
            "worker-panics=many",
            "candidate-hang=often",
            "request-errors=101%",
        ] {
            assert!(text.parse::<Chaos>().unwrap_err().starts_with(text));
        }
    }

    #[test]
    fn a_rehearsal_is_shown_as_it_was_asked_for() {
        for text in [
            "",
            "load-delay=30s,batch-delay=200ms,crowd-delay=50ms,request-errors=5%",
            "hang-after=0s,worker-panic-after=1m,worker-panics=3",
            "device-lost-after=1s,runtime-stall-after=2s,candidate-hang=1,dependency-down=redis,dependency-down=db",
        ] {
            assert_eq!(text.parse::<Chaos>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_throttled_read_takes_its_share_and_shows_its_progress() {
        let chaos = Chaos { load_delay: Duration::from_millis(400), ..Chaos::default() };
        let started = std::time::Instant::now();
        let mut seen = Vec::new();
        chaos.throttle(0, 50, 100, &mut |bytes| seen.push(bytes));
        assert!(started.elapsed() >= Duration::from_millis(200));
        assert!(seen.len() >= 3 && seen.is_sorted() && seen.iter().all(|bytes| *bytes < 50), "{seen:?}");
    }

    #[test]
    fn only_what_is_loaded_while_serving_hangs_in_its_warm_up() {
        let rehearsal = Rehearsal::of(&"candidate-hang=1".parse().unwrap());
        assert!(!rehearsal.candidate_hangs());
        rehearsal.begin();
        assert_eq!([(); 2].map(|()| rehearsal.candidate_hangs()), [true, false]);
    }

    #[test]
    fn trouble_comes_after_its_time_and_as_often_as_it_was_asked_for() {
        let rehearsal = Rehearsal::of(&"worker-panic-after=0s,worker-panics=2,hang-after=1h".parse().unwrap());
        assert_eq!(rehearsal.next(), None, "serving has not begun");
        rehearsal.begin();
        assert_eq!([(); 3].map(|()| rehearsal.next()), [Some(Trouble::Panic), Some(Trouble::Panic), None]);
    }
}
