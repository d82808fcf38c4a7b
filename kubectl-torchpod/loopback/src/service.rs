//! A Service: what its clients wrote, and where its connections go.

use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pod::{Labels, Pod};
use crate::route::Route;

pub(crate) struct Service {
    pub(crate) object: core::Service,
    pub(crate) route: Route,
}

impl Service {
    pub(crate) fn new(object: core::Service) -> Service {
        Service { object, route: Route::new() }
    }

    pub(crate) fn name(&self) -> &str {
        self.object.metadata.name.as_deref().expect("it has a name")
    }

    pub(crate) fn namespace(&self) -> &str {
        self.object.metadata.namespace.as_deref().expect("it has a namespace")
    }

    fn spec(&self) -> &core::ServiceSpec {
        self.object.spec.as_ref().expect("it was checked")
    }

    pub(crate) fn selector(&self) -> Labels {
        self.spec().selector.clone().unwrap_or_default()
    }

    pub(crate) fn ports(&self) -> &[core::ServicePort] {
        self.spec().ports.as_deref().unwrap_or_default()
    }

    /// Pods that it selects, those that are ending among them.
    pub(crate) fn pods<'a>(&self, all: &'a [Pod]) -> impl Iterator<Item = &'a Pod> + use<'a> {
        let (selector, namespace) = (self.selector(), self.namespace().to_owned());
        all.iter().filter(move |pod| pod.namespace() == namespace && pod.has(&selector))
    }

    /// Writes the rules anew where it is time. Returns whether they changed.
    pub(crate) fn sync(&mut self, pods: &[Pod], now: Duration) -> bool {
        let wanted = self.wanted(pods);
        self.route.sync(wanted, now)
    }

    /// Whether the rules are those that the pods ask for.
    pub(crate) fn is_current(&self, pods: &[Pod]) -> bool {
        self.route.rules == self.wanted(pods)
    }

    /// The ready ones; where all are ending, those that still say they are ready.
    fn wanted(&self, pods: &[Pod]) -> Vec<usize> {
        let serving =
            || self.pods(pods).filter(|pod| pod.is_ready() && pod.end != kubectl_torchpod::rollout::End::Finished);
        let ready: Vec<_> = serving().filter(|pod| pod.stays()).map(|pod| pod.id).collect();
        if ready.is_empty() { serving().map(|pod| pod.id).collect() } else { ready }
    }
}

/// Where a port of a Service goes.
pub(crate) fn target(port: &core::ServicePort) -> IntOrString {
    port.target_port.clone().unwrap_or(IntOrString::Int(port.port))
}
