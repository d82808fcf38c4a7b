//! Rehearsed trouble: slows the real loading and the real batches, so that people can watch and tests can hold a phase.

use std::time::Duration;

/// What `--chaos` asked for; the default is none of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chaos {
    /// Reading a model takes at least this long.
    pub load_delay: Duration,
    /// Added to every batch.
    pub batch_delay: Duration,
}

impl std::str::FromStr for Chaos {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut chaos = Self::default();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let expected = || format!("{part}: expected load-delay=TIME or batch-delay=TIME, such as load-delay=30s");
            let (key, value) = part.split_once('=').ok_or_else(expected)?;
            let time = humantime::parse_duration(value).map_err(|_| expected())?;
            match key {
                "load-delay" => chaos.load_delay = time,
                "batch-delay" => chaos.batch_delay = time,
                _ => return Err(expected()),
            }
        }
        Ok(chaos)
    }
}

impl Chaos {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_delays_are_read_and_anything_else_is_named() {
        let chaos: Chaos = "load-delay=30s,batch-delay=200ms".parse().unwrap();
        assert_eq!((chaos.load_delay, chaos.batch_delay), (Duration::from_secs(30), Duration::from_millis(200)));
        assert!("".parse::<Chaos>().unwrap().is_none());
        for text in ["load-delay", "load-delay=soon", "fire=1s"] {
            assert!(text.parse::<Chaos>().unwrap_err().starts_with(text));
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
}
