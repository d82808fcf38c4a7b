//! How large and how fast a test is.

use std::time::Duration;

/// A test's size.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// The most pods of a Deployment, where the manifest has more.
    pub most: i32,
    /// How many times as often as the manifest says probes are asked; their delays shrink alike. Their timeouts do not,
    /// nor what ends a pod: preStop, the drain and the grace are what is tested.
    pub haste: u32,
    /// Requests of each kind, at least.
    pub requests: usize,
    /// How long a client rests after a request.
    pub rest: Duration,
}

impl Scale {
    /// For CI.
    pub fn few(most: i32) -> Scale {
        Scale { most, haste: 10, requests: 500, rest: Duration::from_millis(15) }
    }

    /// As the manifests say, with about 200 requests a second of each kind: two cores have room left for pods that start.
    pub fn full() -> Scale {
        Scale { most: i32::MAX, haste: 1, requests: 20_000, rest: Duration::from_millis(8) }
    }

    pub(crate) fn seconds(self, number: Option<i32>, default: u64) -> Duration {
        let number = number.map_or(default, |number| u64::try_from(number).unwrap_or(0));
        Duration::from_secs(number) / self.haste
    }
}
