//! What a Deployment asks for, and its bounds in pods.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cluster::scaled;

/// Which pod template: what `kubectl rollout undo` goes back to is an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Template(pub u32);

#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub template: Template,
    pub replicas: i32,
    pub strategy: Strategy,
    pub min_ready: Duration,
    /// How long without progress is too long; None, where nobody watches.
    pub deadline: Option<Duration>,
    pub paused: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Strategy {
    Recreate,
    Rolling { surge: IntOrString, unavailable: IntOrString },
}

impl Spec {
    /// Of a manifest, with an API server's defaults.
    pub fn of(deployment: &Deployment) -> Spec {
        let spec = &deployment.spec;
        let strategy = spec.strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = || IntOrString::String("25%".to_owned());
        let recreate = strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate");
        let strategy = if recreate {
            Strategy::Recreate
        } else {
            Strategy::Rolling {
                surge: rolling.and_then(|rolling| rolling.max_surge.clone()).unwrap_or_else(quarter),
                unavailable: rolling.and_then(|rolling| rolling.max_unavailable.clone()).unwrap_or_else(quarter),
            }
        };
        // The largest number means that nobody watches.
        let deadline = spec.progress_deadline_seconds.unwrap_or(600);
        Spec {
            template: Template(1),
            replicas: spec.replicas.unwrap_or(1),
            strategy,
            min_ready: seconds(spec.min_ready_seconds.unwrap_or(0)),
            deadline: (deadline != i32::MAX).then(|| seconds(deadline)),
            paused: spec.paused.unwrap_or(false),
        }
    }

    /// Pods beyond `replicas`: a percentage is rounded up.
    pub fn surge(&self) -> i32 {
        match &self.strategy {
            Strategy::Recreate => 0,
            Strategy::Rolling { surge, .. } => scaled(surge, self.replicas, true).unwrap_or(0),
        }
    }

    /// Pods that may be missing: a percentage is rounded down. One, where nothing could move otherwise.
    pub fn unavailable(&self) -> i32 {
        match &self.strategy {
            Strategy::Recreate => 0,
            Strategy::Rolling { unavailable, .. } => {
                let pods = scaled(unavailable, self.replicas, false).unwrap_or(0);
                let pods = if pods == 0 && self.surge() == 0 { 1 } else { pods };
                pods.min(self.replicas)
            }
        }
    }

    /// The most pods at once, those that are ending not counted.
    pub fn most(&self) -> i32 {
        self.replicas + self.surge()
    }

    /// The promise: the fewest available pods while a good version is rolled out.
    pub fn least(&self) -> i32 {
        match self.strategy {
            Strategy::Recreate => 0,
            Strategy::Rolling { .. } => self.replicas - self.unavailable(),
        }
    }
}

fn seconds(number: i32) -> Duration {
    Duration::from_secs(u64::try_from(number).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(replicas: i32, surge: &str, unavailable: &str) -> Spec {
        let amount = |text: &str| text.parse().map_or_else(|_| IntOrString::String(text.to_owned()), IntOrString::Int);
        Spec {
            template: Template(1),
            replicas,
            strategy: Strategy::Rolling { surge: amount(surge), unavailable: amount(unavailable) },
            min_ready: Duration::ZERO,
            deadline: None,
            paused: false,
        }
    }

    #[test]
    fn bounds_follow_the_replicas() {
        for (replicas, surge, unavailable, most, least) in [
            (10, "25%", "25%", 13, 8),
            (7, "30%", "10%", 10, 7),
            (3, "25%", "25%", 4, 3),
            (1, "0", "25%", 1, 0),
            (4, "2", "9", 6, 0),
            (0, "25%", "25%", 0, 0),
        ] {
            let spec = spec(replicas, surge, unavailable);
            assert_eq!((spec.most(), spec.least()), (most, least), "{replicas}, {surge}, {unavailable}");
        }
    }
}
