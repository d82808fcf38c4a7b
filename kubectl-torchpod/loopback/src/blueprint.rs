//! What a ReplicaSet makes pods of, and what of it this cluster can run.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::pod::Labels;

/// Letters and digits that spell no words, as in the names that Kubernetes makes up.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

#[derive(Debug)]
pub(crate) struct Blueprint {
    pub(crate) template: PodTemplateSpec,
    /// The value of the label `pod-template-hash`.
    pub(crate) hash: String,
}

impl Blueprint {
    pub(crate) fn new(template: &PodTemplateSpec) -> Blueprint {
        let text = serde_json::to_vec(template).expect("a template is JSON");
        // FNV-1a.
        let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = text.iter().fold(0xcbf2_9ce4_8422_2325, fold);
        Blueprint { template: template.clone(), hash: spelt(hash, 10) }
    }

    pub(crate) fn spec(&self) -> &PodSpec {
        self.template.spec.as_ref().expect("it was checked")
    }

    /// The template's own, and the hash.
    pub(crate) fn labels(&self) -> Labels {
        let own = self.template.metadata.as_ref().and_then(|metadata| metadata.labels.clone());
        own.into_iter().flatten().chain([("pod-template-hash".to_owned(), self.hash.clone())]).collect()
    }

    /// The container that serves; there is no other.
    pub(crate) fn container(&self) -> &Container {
        &self.spec().containers[0]
    }

    pub(crate) fn image(&self) -> &str {
        self.container().image.as_deref().unwrap_or_default()
    }

    /// How long preStop sleeps.
    pub(crate) fn sleep(&self) -> Duration {
        let hook = self.container().lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        let sleep = hook.and_then(|hook| hook.sleep.as_ref()).map_or(0, |sleep| sleep.seconds);
        Duration::from_secs(u64::try_from(sleep).unwrap_or(0))
    }

    pub(crate) fn grace(&self) -> Duration {
        let grace = self.spec().termination_grace_period_seconds.unwrap_or(30);
        Duration::from_secs(u64::try_from(grace).unwrap_or(0))
    }

    /// The number of a port that is given by name or by number.
    pub(crate) fn port(&self, port: &IntOrString) -> Option<u16> {
        number(self.container(), port)
    }
}

/// So many letters of a number.
pub(crate) fn spelt(mut number: u64, letters: usize) -> String {
    let mut text = String::new();
    for _ in 0..letters {
        text.push(char::from(ALPHABET[usize::try_from(number % 27).expect("below 27")]));
        number /= 27;
    }
    text
}

fn number(container: &Container, port: &IntOrString) -> Option<u16> {
    let name = match port {
        IntOrString::Int(number) => return u16::try_from(*number).ok(),
        IntOrString::String(name) => name,
    };
    let mut ports = container.ports.iter().flatten();
    let named = ports.find(|port| port.name.as_deref() == Some(name)).map(|port| port.container_port);
    named.and_then(|number| u16::try_from(number).ok()).or_else(|| name.parse().ok())
}

/// Why this cluster cannot run such pods. It runs one program in each, and asks it over HTTP.
pub(crate) fn check(template: &PodTemplateSpec) -> Result<(), String> {
    let Some(spec) = &template.spec else { return Err("spec.template.spec: Required value".to_owned()) };
    let refused = |what: &str| Err(format!("spec.template.spec: the cluster on loopback does not run {what}"));
    let [container] = &spec.containers[..] else { return refused("pods of several containers") };
    if spec.init_containers.as_ref().is_some_and(|all| !all.is_empty()) {
        return refused("init containers");
    }
    if container.env.iter().flatten().any(|variable| variable.value_from.is_some()) {
        return refused("variables with valueFrom");
    }
    let lifecycle = container.lifecycle.as_ref();
    let stop = lifecycle.and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    if lifecycle.is_some_and(|lifecycle| lifecycle.post_start.is_some())
        || stop.is_some_and(|stop| stop.sleep.is_none())
    {
        return refused("hooks but for a preStop that sleeps");
    }
    let asks = |probe: &Option<Probe>| match probe {
        None => true,
        Some(probe) => probe.http_get.as_ref().is_some_and(|http| number(container, &http.port).is_some()),
    };
    if ![&container.startup_probe, &container.liveness_probe, &container.readiness_probe].into_iter().all(asks) {
        return refused("probes but for httpGet on one of the container's ports");
    }
    Ok(())
}
