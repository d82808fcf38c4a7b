//! What a rolling update may do, in pods. maxSurge is rounded up and maxUnavailable down; where both come out as 0, the
//! controller takes one pod away at a time.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollout {
    pub replicas: i32,
    pub surge: i32,
    pub unavailable: i32,
}

impl Rollout {
    /// None for Recreate, where nobody wrote how many there are, and for what cannot be read.
    pub fn of(deployment: &Deployment) -> Option<Rollout> {
        let spec = &deployment.spec;
        let strategy = spec.strategy.as_ref();
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
            return None;
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".to_owned());
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter);
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter);
        // What an API server fills in; with a maxUnavailable of 0 it holds for any other number as well.
        let alike = matches!(unavailable, IntOrString::Int(0));
        let replicas = spec.replicas.or_else(|| alike.then_some(1))?;
        let surge = scaled(surge, replicas, true)?;
        let unavailable = scaled(unavailable, replicas, false)?;
        let stuck = surge == 0 && unavailable == 0;
        Some(Rollout { replicas, surge, unavailable: if stuck { 1 } else { unavailable } })
    }
}

/// A number, or a percentage of `total`. None, where it is neither.
pub fn scaled(value: &IntOrString, total: i32, up: bool) -> Option<i32> {
    match value {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%')?.parse().ok()?;
            let hundredths = percent.checked_mul(i64::from(total))?;
            let rounded = if up { hundredths.checked_add(99)? } else { hundredths };
            i32::try_from(rounded.div_euclid(100)).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surge_is_rounded_up_and_what_may_be_missing_down() {
        let percent = |text: &str, total, up| scaled(&IntOrString::String(text.to_owned()), total, up);
        assert_eq!(percent("25%", 10, true), Some(3));
        assert_eq!(percent("25%", 10, false), Some(2));
        assert_eq!(percent("25%", 1, true), Some(1));
        assert_eq!(percent("25%", 1, false), Some(0));
        assert_eq!(percent("a quarter", 4, true), None);
    }
}
