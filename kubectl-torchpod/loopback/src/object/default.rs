//! What an API server makes of an object before it keeps it: only what has its place in the type is left, what nobody
//! wrote gets its default, and what cannot be is refused.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{PodSpec, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kubectl_torchpod::cluster::{Labels, matches};
use serde_json::{Value, json};

use super::{Kind, Problem, Resource, json_of};
use crate::blueprint;

pub(super) fn admitted(resource: &Resource, value: Value, before: Option<&Value>) -> Result<Value, Problem> {
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let invalid = |why: String| Problem::invalid(resource, &name, why);
    let shaped = resource.shaped(value).map_err(Problem::Bad)?;
    match resource.does {
        Kind::Deployment => deployment(read(shaped), before).map_err(invalid),
        Kind::Service => service(read(shaped), before).map_err(invalid),
        Kind::Budget => budget(read(shaped)).map_err(invalid),
        _ => Ok(shaped),
    }
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("it has just been written")
}

fn deployment(mut object: Deployment, before: Option<&Value>) -> Result<Value, String> {
    let spec = &mut object.spec;
    spec.replicas.get_or_insert(1);
    spec.revision_history_limit.get_or_insert(10);
    spec.progress_deadline_seconds.get_or_insert(600);
    let strategy = spec.strategy.get_or_insert_default();
    let kind = strategy.type_.get_or_insert_with(|| "RollingUpdate".to_owned());
    match kind.as_str() {
        "RollingUpdate" => {
            let rolling = strategy.rolling_update.get_or_insert_default();
            let quarter = || IntOrString::String("25%".to_owned());
            rolling.max_surge.get_or_insert_with(quarter);
            rolling.max_unavailable.get_or_insert_with(quarter);
        }
        "Recreate" if strategy.rolling_update.is_some() => {
            return Err("spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is \
                        'Recreate'"
                .to_owned());
        }
        "Recreate" => {}
        other => {
            return Err(format!(
                "spec.strategy: Unsupported value: \"{other}\": supported values: \"Recreate\", \"RollingUpdate\""
            ));
        }
    }
    if spec.replicas.is_some_and(|replicas| replicas < 0) {
        return Err("spec.replicas: Invalid value: must be greater than or equal to 0".to_owned());
    }
    if let Some(pod) = &mut spec.template.spec {
        fill_in(pod);
    }
    blueprint::check(&spec.template)?;
    let labels: Labels =
        spec.template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).unwrap_or_default();
    let selects =
        spec.selector.match_labels.iter().flatten().count() + spec.selector.match_expressions.iter().flatten().count();
    if selects == 0 {
        return Err("spec.selector: Required value".to_owned());
    }
    if !matches(&spec.selector, &labels) {
        return Err("spec.template.metadata.labels: `selector` does not match template `labels`".to_owned());
    }
    if before.is_some_and(|before| before["spec"]["selector"] != json_of(&spec.selector)) {
        return Err("spec.selector: field is immutable".to_owned());
    }
    object.status = None;
    Ok(json_of(&object))
}

/// Every default of what our pods have, so that a template that a client sends back is the one that it has read.
fn fill_in(pod: &mut PodSpec) {
    let text = |text: &'static str| move || text.to_owned();
    pod.restart_policy.get_or_insert_with(text("Always"));
    pod.dns_policy.get_or_insert_with(text("ClusterFirst"));
    pod.scheduler_name.get_or_insert_with(text("default-scheduler"));
    pod.security_context.get_or_insert_default();
    pod.termination_grace_period_seconds.get_or_insert(30);
    for container in &mut pod.containers {
        let moves = container.image.as_deref().is_none_or(|image| image.ends_with(":latest") || !image.contains(':'));
        container.image_pull_policy.get_or_insert_with(text(if moves { "Always" } else { "IfNotPresent" }));
        container.termination_message_path.get_or_insert_with(text("/dev/termination-log"));
        container.termination_message_policy.get_or_insert_with(text("File"));
        container.resources.get_or_insert_default();
        for port in container.ports.iter_mut().flatten() {
            port.protocol.get_or_insert_with(text("TCP"));
        }
        let probes = [&mut container.startup_probe, &mut container.liveness_probe, &mut container.readiness_probe];
        for probe in probes.into_iter().flatten() {
            // Nothing and zero are the same.
            probe.initial_delay_seconds = probe.initial_delay_seconds.filter(|seconds| *seconds != 0);
            for (field, default) in [
                (&mut probe.timeout_seconds, 1),
                (&mut probe.period_seconds, 10),
                (&mut probe.success_threshold, 1),
                (&mut probe.failure_threshold, 3),
            ] {
                *field = Some(field.filter(|number| *number != 0).unwrap_or(default));
            }
            if let Some(http) = &mut probe.http_get {
                http.scheme.get_or_insert_with(text("HTTP"));
                http.path.get_or_insert_with(text("/"));
            }
        }
    }
}

fn service(mut object: Service, before: Option<&Value>) -> Result<Value, String> {
    let Some(spec) = &mut object.spec else { return Err("spec: Required value".to_owned()) };
    let kind = spec.type_.get_or_insert_with(|| "ClusterIP".to_owned()).clone();
    spec.session_affinity.get_or_insert_with(|| "None".to_owned());
    spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    let ports = spec.ports.as_deref_mut().unwrap_or_default();
    if ports.is_empty() && kind != "ExternalName" {
        return Err("spec.ports: Required value".to_owned());
    }
    for port in ports.iter_mut() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
        let number = port.port;
        port.target_port.get_or_insert(IntOrString::Int(number));
    }
    // Nobody answers there: connections go by the rules, or through the API server.
    let address = before.map_or(json!("10.96.0.1"), |before| before["spec"]["clusterIP"].clone());
    if kind != "ExternalName" && spec.cluster_ip.is_none() {
        spec.cluster_ip = address.as_str().map(str::to_owned);
    }
    object.status = None;
    Ok(json_of(&object))
}

fn budget(mut object: PodDisruptionBudget) -> Result<Value, String> {
    let Some(spec) = &object.spec else { return Err("spec: Required value".to_owned()) };
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        return Err("spec: minAvailable and maxUnavailable cannot be both set".to_owned());
    }
    object.status = None;
    Ok(json_of(&object))
}
