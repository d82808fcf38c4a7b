//! A client's limit on its requests, as a bucket of tokens: above a burst, so many a second.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Limiter {
    /// Between two requests, once the burst is used up.
    every: Duration,
    burst: u32,
    /// When the bucket is full again.
    full: Duration,
}

impl Limiter {
    pub fn new(per_second: u32, burst: u32) -> Limiter {
        Limiter { every: Duration::from_secs(1) / per_second, burst, full: Duration::ZERO }
    }

    /// When the next request may go out, and counts it.
    pub fn take(&mut self, now: Duration) -> Duration {
        let full = self.full.max(now) + self.every;
        self.full = full;
        now.max(full.saturating_sub(self.every * self.burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_its_rate() {
        let mut limiter = Limiter::new(20, 3);
        let now = Duration::from_secs(10);
        let times: Vec<_> = (0..5).map(|_| (limiter.take(now) - now).as_millis()).collect();
        assert_eq!(times, [0, 0, 0, 50, 100]);
        let later = now + Duration::from_secs(5);
        assert_eq!(limiter.take(later), later);
    }
}
