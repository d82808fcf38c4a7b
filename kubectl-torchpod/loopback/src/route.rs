//! Where a Service's connections go: kube-proxy's rules, which lag behind the pods' readiness.

use std::time::Duration;

/// From a change of the endpoints to that of the rules. (Measured on 1.36: 0.3 to 1.0 s, since rules are written once a
/// second at most.)
const LAG: std::ops::RangeInclusive<u64> = 300..=1_000;

pub struct Route {
    /// Pods to which new connections go, in order.
    pub rules: Vec<usize>,
    /// Every time at which they changed, and to what.
    history: Vec<(Duration, Vec<usize>)>,
    write_at: Option<Duration>,
    lags: fastrand::Rng,
}

impl Route {
    pub(crate) fn new() -> Route {
        Route { rules: Vec::new(), history: Vec::new(), write_at: None, lags: fastrand::Rng::with_seed(36) }
    }

    /// Writes the rules anew where it is time. Returns whether they changed.
    pub(crate) fn sync(&mut self, wanted: Vec<usize>, now: Duration) -> bool {
        match self.write_at {
            Some(at) if now >= at => self.write_at = None,
            None if wanted != self.rules => {
                self.write_at = Some(now + Duration::from_millis(self.lags.u64(LAG)));
                return false;
            }
            _ => return false,
        }
        let changed = wanted != self.rules;
        if changed {
            self.history.push((now, wanted.clone()));
            self.rules = wanted;
        }
        changed
    }

    /// Since when connections went to a pod that came after the first `pods`, and to no other.
    pub fn opened_for(&self, pods: usize) -> Duration {
        let opened = self.history.iter().find(|(_, rules)| !rules.is_empty() && rules.iter().all(|id| *id >= pods));
        opened.expect("they went to new pods").0
    }

    pub(crate) fn look_at(&self) -> Option<Duration> {
        self.write_at
    }
}
