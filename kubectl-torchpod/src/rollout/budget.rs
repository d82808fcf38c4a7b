//! Pod disruption budgets: whether an eviction, such as `kubectl drain` asks for, is granted. Rollouts do not ask.

use std::fmt;

use k8s_openapi::api::policy::v1::PodDisruptionBudgetSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cluster::scaled;

#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    bound: Bound,
    /// `unhealthyPodEvictionPolicy: AlwaysAllow`: what is broken anyway may always go.
    always_unhealthy: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Bound {
    Least(IntOrString),
    Missing(IntOrString),
}

/// Why a pod stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    pub healthy: i32,
    pub least: i32,
}

impl Budget {
    /// None, where neither bound is given: then nothing is promised.
    pub fn of(spec: &PodDisruptionBudgetSpec) -> Option<Budget> {
        let bound = match (&spec.min_available, &spec.max_unavailable) {
            (Some(least), _) => Bound::Least(least.clone()),
            (None, Some(missing)) => Bound::Missing(missing.clone()),
            (None, None) => return None,
        };
        let always_unhealthy = spec.unhealthy_pod_eviction_policy.as_deref() == Some("AlwaysAllow");
        Some(Budget { bound, always_unhealthy })
    }

    /// How many of `expected` pods have to stay ready. Percentages are rounded up, both of them.
    pub fn least(&self, expected: i32) -> i32 {
        match &self.bound {
            Bound::Least(least) => scaled(least, expected, true).unwrap_or(expected),
            Bound::Missing(missing) => (expected - scaled(missing, expected, true).unwrap_or(0)).max(0),
        }
    }

    /// Asks to evict one pod, of a controller that wants `expected` of which `healthy` are ready and not leaving.
    pub fn evict(&self, is_ready: bool, healthy: i32, expected: i32) -> Result<(), Refused> {
        let least = self.least(expected);
        // A pod that is not ready may go while the promise is kept without it, or always, as the policy says.
        let granted = if is_ready { healthy > least } else { self.always_unhealthy || healthy >= least };
        if granted { Ok(()) } else { Err(Refused { healthy, least }) }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "its budget keeps {} pods, and {} are ready", self.least, self.healthy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(least: Option<&str>, missing: Option<&str>, policy: Option<&str>) -> Budget {
        let amount = |text: &str| text.parse().map_or_else(|_| IntOrString::String(text.to_owned()), IntOrString::Int);
        let spec = PodDisruptionBudgetSpec {
            min_available: least.map(amount),
            max_unavailable: missing.map(amount),
            unhealthy_pod_eviction_policy: policy.map(str::to_owned),
            ..PodDisruptionBudgetSpec::default()
        };
        Budget::of(&spec).unwrap()
    }

    #[test]
    fn an_eviction_that_would_break_the_budget_is_refused() {
        let budget = budget(Some("2"), None, None);
        assert_eq!(budget.evict(true, 3, 3), Ok(()));
        assert_eq!(budget.evict(true, 2, 3), Err(Refused { healthy: 2, least: 2 }));
        assert_eq!(budget.evict(true, 2, 3).unwrap_err().to_string(), "its budget keeps 2 pods, and 2 are ready");
    }

    #[test]
    fn percentages_are_rounded_up_on_both_sides() {
        assert_eq!(budget(Some("50%"), None, None).least(3), 2);
        assert_eq!(budget(None, Some("30%"), None).least(4), 2);
        assert_eq!(budget(None, Some("100%"), None).least(4), 0);
    }

    #[test]
    fn a_broken_pod_goes_where_the_promise_is_kept_without_it_or_the_policy_says_so() {
        assert_eq!(budget(None, Some("1"), None).evict(false, 2, 3), Ok(()));
        assert!(budget(None, Some("1"), None).evict(false, 1, 3).is_err());
        assert_eq!(budget(None, Some("1"), Some("AlwaysAllow")).evict(false, 1, 3), Ok(()));
    }
}
