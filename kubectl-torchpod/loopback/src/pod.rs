//! A pod, as its status has it: everybody reads it, and its kubelet writes it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubectl_torchpod::rollout::{End, Observed, Template};

use crate::blueprint::Blueprint;
use crate::kubelet::rules;

pub(crate) type Labels = BTreeMap<String, String>;

pub struct Pod {
    pub id: usize,
    /// Which Deployment's, and which revision's.
    pub(crate) deployment: usize,
    pub(crate) template: Template,
    pub(crate) blueprint: Arc<Blueprint>,
    /// Its own name, labels and annotations.
    pub(crate) metadata: ObjectMeta,
    pub(crate) address: Ipv4Addr,
    /// None, while no node takes it.
    pub node: Option<usize>,
    pub created: Duration,
    /// When the kubelet first saw it.
    pub(crate) bound: Option<Duration>,
    /// The container that runs now.
    pub(crate) container: Option<Running>,
    /// Why none does.
    pub(crate) waiting: Option<Waiting>,
    pub(crate) ready_since: Option<Duration>,
    /// When it last turned ready, or ceased to be.
    pub(crate) turned: Duration,
    /// Its startup probe has passed once.
    pub started: bool,
    pub restarts: u32,
    /// A probe has failed once too often.
    pub(crate) condemned: bool,
    pub(crate) end: End,
    /// When it was deleted, and how long it has to end.
    pub(crate) deleted: Option<(Duration, Duration)>,
    pub exits: Vec<Exit>,
}

/// A container that runs, and what its probes have found so far.
pub(crate) struct Running {
    pub(crate) since: Duration,
    pub(crate) rules: rules::Container,
}

/// Why a container does not run, in the kubelet's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// A container's end.
#[derive(Clone, Copy, Debug)]
pub struct Exit {
    pub(crate) since: Duration,
    /// When it was sent SIGTERM, if it was.
    pub told: Option<Duration>,
    pub at: Duration,
    /// None, where a signal ended it.
    pub code: Option<i32>,
}

impl Pod {
    pub fn is_ready(&self) -> bool {
        self.ready_since.is_some()
    }

    pub fn stays(&self) -> bool {
        self.end == End::Stays
    }

    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().expect("it has a name")
    }

    pub(crate) fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().expect("it has a namespace")
    }

    pub(crate) fn labels(&self) -> &Labels {
        self.metadata.labels.as_ref().expect("it has labels")
    }

    /// Whether it has every label of a Service's selector; an empty one means nobody.
    pub(crate) fn has(&self, selector: &Labels) -> bool {
        !selector.is_empty() && selector.iter().all(|(key, value)| self.labels().get(key) == Some(value))
    }

    pub(crate) fn set_ready(&mut self, ready: bool, now: Duration) {
        if ready != self.is_ready() {
            self.turned = now;
            self.ready_since = ready.then_some(now);
        }
    }

    pub(crate) fn observed(&self) -> Observed<usize> {
        Observed {
            id: self.id,
            template: self.template,
            created: self.created,
            scheduled: self.node.is_some(),
            running: self.container.is_some(),
            ready_since: self.ready_since,
            restarts: self.restarts,
            end: self.end,
        }
    }
}
