//! Follows what is derived from the health: each value once, when it changes, until the end of the server's life has
//! been told. Apart from `health` since only streams need it; a probe asks and goes.

use super::Health;
use crate::lifecycle::Phase;

/// A value derived from the health, followed.
pub struct Watch<F, T> {
    health: Health,
    derive: F,
    told: Option<T>,
    over: bool,
}

impl Health {
    /// Follows what `derive` makes of this health. It must be cheap and derive everything anew.
    pub fn watch<T, F: Fn(&Self) -> T>(&self, derive: F) -> Watch<F, T> {
        Watch { health: self.clone(), derive, told: None, over: false }
    }

    /// Waits until a verdict may have changed. Returns false when none will.
    ///
    /// Cancel safe.
    async fn changed(&mut self) -> bool {
        self.lifecycle.changed().await
    }
}

impl<T: PartialEq + Copy, F: Fn(&Health) -> T> Watch<F, T> {
    /// The value as it is now, then whenever it is another than was told last: what comes and goes between two calls is
    /// not told. `None` after the value of a drain, which whoever watches would hold up.
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<T> {
        while !self.over {
            // Asked before the value is derived, so that the last one told is that of the drain.
            self.over = matches!(self.health.phase(), Phase::Draining { .. } | Phase::Stopped);
            let value = (self.derive)(&self.health);
            if self.told != Some(value) {
                self.told = Some(value);
                return self.told;
            }
            self.over = self.over || !self.health.changed().await;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dependency;
    use crate::health::Probe;
    use crate::lifecycle::{self, Event};

    #[tokio::test]
    async fn each_verdict_is_told_once_when_it_changes_until_that_of_the_drain() {
        let (lifecycle, rx) = lifecycle::channel([]);
        let health = Health::new(rx, dependency::watch(Vec::new(), |_| {}), false);
        let watch = |probe| health.watch(move |health| health.passes(probe));
        let (mut readiness, mut liveness) = (watch(Probe::Readiness), watch(Probe::Liveness));
        assert_eq!((readiness.next().await, liveness.next().await), (Some(false), Some(true)));

        let mover = tokio::spawn(async move {
            for event in [Event::LoadStarted, Event::Loaded, Event::Warmed] {
                lifecycle.progress(&"a stage".into(), 0.5); // No change of a verdict.
                tokio::task::yield_now().await;
                lifecycle.apply(event, "a reason");
            }
            lifecycle
        });
        assert_eq!(readiness.next().await, Some(true));
        let lifecycle = mover.await.unwrap();
        lifecycle.apply(Event::Terminate, "a signal");
        assert_eq!((readiness.next().await, readiness.next().await), (Some(false), None));
        assert_eq!(liveness.next().await, None, "no verdict has changed, and still it ends");
    }

    #[tokio::test]
    async fn a_watch_that_begins_in_a_drain_tells_its_verdict_and_ends() {
        let (lifecycle, rx) = lifecycle::channel([]);
        lifecycle.apply(Event::Terminate, "a signal");
        let mut watch = Health::new(rx, dependency::watch(Vec::new(), |_| {}), false)
            .watch(|health| health.passes(Probe::Liveness));
        assert_eq!((watch.next().await, watch.next().await), (Some(true), None));
    }
}
