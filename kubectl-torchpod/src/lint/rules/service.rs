//! Whether a Service reaches what it is meant to reach.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cluster::{Container, Labels, Workload, spelt};
use crate::lint::finding::Found;
use crate::lint::rule::{Context, rules};
use crate::manifest::{Object, Place};
use crate::server::Server;

rules! {
    "service-selects-nothing", Warning, selects_nothing,
        "A Service whose selector matches no pod has no endpoints: every request is refused",
        "Let the selector name labels that the pods have";
    "service-port-name-unknown", Error, port_name_unknown,
        "No container has a port of that name, so that the Service has no endpoint for it",
        "Name one of the containers' ports, or write the number";
    "service-port-closed", Warning, port_closed,
        "The Service sends requests to a port on which nothing listens, as far as the containers say",
        "Write the targetPort on which the server listens";
    "service-ports-unnamed", Error, ports_unnamed,
        "An API server refuses a Service with several ports that do not each have a name of their own",
        "Give each port a name";
    "affinity-on-headless", Warning, affinity_on_headless,
        "Nobody is between a client and a headless Service's pods who could keep them together: sessionAffinity is \
         ignored",
        "Leave it out, or give the Service a cluster IP";
    "external-name-address", Warning, external_name_address,
        "An ExternalName is answered by DNS as a name, and a name that looks like an address leads nowhere",
        "Use a Service without a selector and an EndpointSlice with the address";
    "stateful-service-not-headless", Warning, stateful_service_not_headless,
        "The pods of a StatefulSet get names of their own only from a headless Service",
        "Set clusterIP: None in the Service, or name another one";
}

struct Selecting<'a> {
    object: &'a Object,
    spec: &'a ServiceSpec,
    selector: &'a Labels,
    pods: Vec<&'a Workload<'a>>,
}

/// Services with a selector, and whose pods they mean.
fn selecting<'a>(context: &'a Context<'_>) -> impl Iterator<Item = Selecting<'a>> {
    context.cluster.all::<Service>().filter_map(|(object, service)| {
        let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() != Some("ExternalName"))?;
        let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
        let pods = context.cluster.selected(object.namespace.as_deref(), selector);
        Some(Selecting { object, spec, selector, pods })
    })
}

/// Those that send requests to pods of the input. A headless one's ports are only told by DNS.
fn forwarding<'a>(context: &'a Context<'_>) -> impl Iterator<Item = Selecting<'a>> {
    selecting(context).filter(|service| !service.pods.is_empty() && service.spec.cluster_ip.as_deref() != Some("None"))
}

fn ports<'a>(object: &'a Object, spec: &'a ServiceSpec) -> impl Iterator<Item = (Place<'a>, &'a ServicePort)> {
    let ports = spec.ports.iter().flatten().enumerate();
    ports.map(move |(index, port)| (object.place().item("spec.ports", index), port))
}

fn selects_nothing(context: &Context<'_>) -> Vec<Found> {
    let by_name: HashMap<_, _> =
        context.cluster.workloads.iter().map(|one| ((&one.object.namespace, &one.object.name), one)).collect();
    // A Service between blue and green is told of by name.
    let told: HashSet<String> =
        super::track::blue_green_none(context).into_iter().map(|found| found.spot.object).collect();
    let empty = selecting(context).filter(|service| service.pods.is_empty() && !told.contains(&service.object.label()));
    let found = empty.filter_map(|service| {
        // Pods of which the input says nothing may be anywhere; those that nearly match are meant.
        let (object, selector) = (service.object, service.selector);
        if super::flagger::means_primary(context, object.namespace.as_deref(), selector) {
            return None;
        }
        let near = context.cluster.nearly_selected(object.namespace.as_deref(), selector);
        let namesake = by_name.get(&(&object.namespace, &object.name)).copied();
        let near = near.or(namesake.filter(|one| one.serves() && !one.gets_later(selector)))?;
        let labels = if near.labels.is_empty() { "no labels".to_owned() } else { spelt(near.labels) };
        let what =
            format!("the selector {} matches no pod; those of {} have {labels}", spelt(selector), near.object.label());
        Some(Found::at(&object.place().key("spec.selector"), what))
    });
    found.collect()
}

fn port_name_unknown(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for service in forwarding(context) {
        for (place, port) in ports(service.object, service.spec) {
            let Some(target @ IntOrString::String(name)) = &port.target_port else { continue };
            let has = |container: Container<'_>| container.port_number(target).is_some();
            if !service.pods.iter().any(|pod| pod.containers().any(has)) {
                let what = format!("no container of {} has a port named {name:?}", service.pods[0].object.label());
                found.push(Found::at(&place.key("targetPort"), what));
            }
        }
    }
    found
}

fn port_closed(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for service in forwarding(context) {
        for (place, port) in ports(service.object, service.spec) {
            let target = port.target_port.clone().unwrap_or(IntOrString::Int(port.port));
            // Of a name that nobody has, a rule of its own tells.
            let known = service.pods.iter().any(|pod| pod.containers().any(|one| one.port_number(&target).is_some()));
            if known && !service.pods.iter().any(|pod| may_answer(pod, &target)) {
                let key = if port.target_port.is_some() { "targetPort" } else { "port" };
                let (pod, port) = (service.pods[0].object.label(), spelt_port(&target));
                let what = format!("nothing in {pod} says that it listens on {port}");
                found.push(Found::at(&place.key(key), what));
            }
        }
    }
    found
}

fn spelt_port(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

/// torchpod listens where it is told, whatever is declared. Of others, one that declares no port may listen anywhere.
fn may_answer(pod: &Workload<'_>, target: &IntOrString) -> bool {
    pod.containers().any(|container| {
        let number = container.port_number(target);
        let declared = container.ports().iter().any(|port| Some(port.container_port) == number);
        let other = declared || (container.ports().is_empty() && number.is_some());
        match (Server::of(&container), number) {
            (Some(server), Some(number)) => server.may_listen(number),
            _ => other,
        }
    })
}

fn ports_unnamed(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (object, service) in context.cluster.all::<Service>() {
        let Some(spec) = service.spec.as_ref().filter(|spec| spec.ports.as_ref().is_some_and(|ports| ports.len() > 1))
        else {
            continue;
        };
        let mut seen = Vec::new();
        for (place, port) in ports(object, spec) {
            match port.name.as_deref().filter(|name| !name.is_empty()) {
                None => found.push(Found::at(&place, "one of several ports, and without a name")),
                Some(name) if seen.contains(&name) => {
                    found.push(Found::at(&place.key("name"), format!("{name} is the name of another port, too")));
                }
                Some(name) => seen.push(name),
            }
        }
    }
    found
}

fn affinity_on_headless(context: &Context<'_>) -> Vec<Found> {
    let services = context.cluster.all::<Service>().filter(|(_, service)| {
        let spec = service.spec.as_ref();
        spec.is_some_and(|spec| {
            spec.cluster_ip.as_deref() == Some("None") && spec.session_affinity.as_deref() == Some("ClientIP")
        })
    });
    services
        .map(|(object, _)| {
            Found::at(&object.place().key("spec.sessionAffinity"), "sessionAffinity on a headless Service")
        })
        .collect()
}

fn external_name_address(context: &Context<'_>) -> Vec<Found> {
    let addresses = context.cluster.all::<Service>().filter_map(|(object, service)| {
        let spec = service.spec.as_ref().filter(|spec| spec.type_.as_deref() == Some("ExternalName"))?;
        let name = spec.external_name.as_deref()?;
        name.parse::<IpAddr>().ok()?;
        Some(Found::at(&object.place().key("spec.externalName"), format!("{name} is an address")))
    });
    addresses.collect()
}

fn stateful_service_not_headless(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    let services = context.cluster.all::<Service>();
    let services: HashMap<_, _> =
        services.map(|(object, service)| ((&object.namespace, object.name.as_str()), service)).collect();
    for (object, set) in context.cluster.all::<StatefulSet>() {
        let named = set.spec.service_name.as_deref().unwrap_or_default();
        let service = services.get(&(&object.namespace, named)).and_then(|service| service.spec.as_ref());
        let headless = service.is_none_or(|spec| spec.cluster_ip.as_deref() == Some("None"));
        if !headless {
            found.push(Found::at(&object.place().key("spec.serviceName"), format!("Service/{named} has a cluster IP")));
        }
    }
    found
}
