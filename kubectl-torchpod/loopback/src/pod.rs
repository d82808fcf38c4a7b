//! A pod, as its status has it: everybody reads it, and its kubelet writes it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use kubectl_torchpod::rollout::{End, Observed, Template};

use crate::kubelet::rules;
use crate::process::Version;

pub(crate) type Labels = BTreeMap<String, String>;

/// What a `ReplicaSet` makes pods of.
#[derive(Debug)]
pub struct Blueprint {
    pub labels: Labels,
    pub spec: PodSpec,
    pub version: Version,
}

pub struct Pod {
    pub id: usize,
    /// Which Deployment's, and which revision's.
    pub deployment: usize,
    pub template: Template,
    pub blueprint: Arc<Blueprint>,
    pub address: Ipv4Addr,
    pub node: usize,
    pub created: Duration,
    /// The container that runs now.
    pub container: Option<Running>,
    pub ready_since: Option<Duration>,
    /// Its startup probe has passed once.
    pub started: bool,
    pub restarts: u32,
    /// A probe has failed once too often.
    pub condemned: bool,
    pub end: End,
    pub exits: Vec<Exit>,
}

/// A container that runs, and what its probes have found so far.
pub struct Running {
    pub since: Duration,
    pub(crate) rules: rules::Container,
}

/// A container's end.
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    /// When it was sent SIGTERM, if it was.
    pub told: Option<Duration>,
    pub at: Duration,
    /// None, where a signal ended it.
    pub code: Option<i32>,
}

impl Blueprint {
    /// The container that serves; a strategy's pods have no other.
    pub fn container(&self) -> &Container {
        &self.spec.containers[0]
    }

    /// How long preStop sleeps.
    pub fn sleep(&self) -> Duration {
        let hook = self.container().lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        let sleep = hook.map_or(0, |hook| hook.sleep.as_ref().expect("preStop sleeps, or is not there").seconds);
        Duration::from_secs(u64::try_from(sleep).expect("no negative sleep"))
    }

    pub fn grace(&self) -> Duration {
        let grace = self.spec.termination_grace_period_seconds.unwrap_or(30);
        Duration::from_secs(u64::try_from(grace).expect("no negative grace"))
    }

    /// The number of a port that is given by name or by number.
    pub fn port(&self, name: &str) -> u16 {
        let mut ports = self.container().ports.iter().flatten();
        let named = ports.find(|port| port.name.as_deref() == Some(name)).map(|port| port.container_port);
        let number = named.or_else(|| name.parse().ok()).unwrap_or_else(|| panic!("{name} is none of the ports"));
        u16::try_from(number).expect("a port")
    }
}

impl Pod {
    pub fn is_ready(&self) -> bool {
        self.ready_since.is_some()
    }

    pub fn stays(&self) -> bool {
        self.end == End::Stays
    }

    pub fn has(&self, selector: &Labels) -> bool {
        selector.iter().all(|(key, value)| self.blueprint.labels.get(key) == Some(value))
    }

    pub fn observed(&self) -> Observed<usize> {
        Observed {
            id: self.id,
            template: self.template,
            created: self.created,
            scheduled: true,
            running: self.container.is_some(),
            ready_since: self.ready_since,
            restarts: self.restarts,
            end: self.end,
        }
    }
}
