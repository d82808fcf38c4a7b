//! Probes that an API server refuses, or that cannot succeed whatever the server answers.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::cluster::{Probe, ProbeKind};
use crate::lint::finding::Found;
use crate::lint::rule::{Context, rules};
use crate::manifest::Problem;
use crate::server::Server;

rules! {
    "probe-handlers", Error, handlers,
        "An API server refuses a probe that does not have exactly one of httpGet, tcpSocket, grpc and exec",
        "Keep one; what shall be asked apart needs a probe of its own";
    "probe-success-threshold", Error, success_threshold,
        "An API server refuses a liveness or startup probe whose successThreshold is not 1",
        "Leave it out; only readiness may ask for several successes in a row";
    "probe-grpc-port-named", Error, grpc_port_named,
        "A gRPC probe takes a number, and an API server refuses a port's name",
        "Write the port's number";
    "probe-port-unresolved", Error, port_unresolved,
        "The kubelet finds no such port, so that the probe fails for ever",
        "Name one of the container's ports, or write the number on which the server listens";
    "probe-host", Warning, host,
        "The kubelet asks another host than the pod, which says nothing of the pod, and which the baseline Pod Security \
         Standard forbids since 1.34",
        "Leave host out; a virtual host goes into httpHeaders as Host";
    "probe-grace-on-readiness", Error, grace_on_readiness,
        "An API server refuses terminationGracePeriodSeconds in a readiness probe, which kills nothing",
        "Move it to the liveness or startup probe, or leave it out";
}

fn each(context: &Context<'_>, what: impl Fn(&Probe<'_>) -> Option<Found>) -> Vec<Found> {
    context.cluster.probes().filter_map(|probe| what(&probe)).collect()
}

fn handlers(context: &Context<'_>) -> Vec<Found> {
    each(context, |probe| {
        let spec = probe.spec;
        let all = [
            ("httpGet", spec.http_get.is_some()),
            ("tcpSocket", spec.tcp_socket.is_some()),
            ("grpc", spec.grpc.is_some()),
            ("exec", spec.exec.is_some()),
        ];
        // A handler that could not be read counts, too: `field-type` and others tell of it.
        let written = |name: &str| probe.place.key(name).node().is_some();
        let there: Vec<&str> =
            all.iter().filter(|(name, read)| *read || written(name)).map(|(name, _)| *name).collect();
        let what = match there.as_slice() {
            [_] => return None,
            [] => format!("the {} probe asks nothing", probe.kind),
            several => format!("the {} probe asks in {} ways: {}", probe.kind, several.len(), several.join(", ")),
        };
        Some(Found::at(&probe.place, what))
    })
}

fn success_threshold(context: &Context<'_>) -> Vec<Found> {
    each(context, |probe| {
        let threshold = probe.spec.success_threshold.filter(|threshold| *threshold > 1)?;
        let what = format!("successThreshold {threshold} in a {} probe", probe.kind);
        (probe.kind != ProbeKind::Readiness).then(|| Found::at(&probe.place.key("successThreshold"), what))
    })
}

fn grpc_port_named(context: &Context<'_>) -> Vec<Found> {
    let problems = context.cluster.problems.iter().filter_map(|(spot, problem)| match problem {
        Problem::Wrong { path, .. } if path.ends_with(&["grpc", "port"]) => Some((spot, path)),
        _ => None,
    });
    problems.map(|(spot, path)| Found { spot: spot.clone(), what: format!("{path} is no number") }).collect()
}

fn port_unresolved(context: &Context<'_>) -> Vec<Found> {
    each(context, |probe| {
        let (port, key) = probe.port()?;
        let container = &probe.container;
        let what = match (container.port_number(&port), &port) {
            (None, IntOrString::String(name)) => {
                format!("the {} probe asks port {name:?}, which {} does not name", probe.kind, container.spec.name)
            }
            // A number that could not be read.
            (None | Some(0), _) => return None,
            (Some(number), _) if Server::of(container)?.may_listen(number) => return None,
            (Some(number), _) => format!("torchpod listens on other ports than {number}, as it is started here"),
        };
        Some(Found::at(&probe.place.key(key), what))
    })
}

fn host(context: &Context<'_>) -> Vec<Found> {
    each(context, |probe| {
        let http = probe.spec.http_get.as_ref().and_then(|http| http.host.as_deref());
        let tcp = probe.spec.tcp_socket.as_ref().and_then(|tcp| tcp.host.as_deref());
        let (host, key) =
            http.map(|host| (host, "httpGet.host")).or_else(|| tcp.map(|host| (host, "tcpSocket.host")))?;
        (!host.is_empty()).then(|| Found::at(&probe.place.key(key), format!("the {} probe asks {host}", probe.kind)))
    })
}

fn grace_on_readiness(context: &Context<'_>) -> Vec<Found> {
    each(context, |probe| {
        probe.spec.termination_grace_period_seconds?;
        let place = probe.place.key("terminationGracePeriodSeconds");
        (probe.kind == ProbeKind::Readiness).then(|| Found::at(&place, "a readiness probe kills nothing"))
    })
}
