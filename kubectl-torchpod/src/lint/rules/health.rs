//! Probes that ask the wrong question: what restarts a server must not be what takes it out of service.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Service;

use crate::cluster::{Container, Probe, ProbeKind};
use crate::lint::finding::Found;
use crate::lint::rule::{Context, rules};
use crate::server::Server;

rules! {
    "liveness-asks-readiness", Warning, liveness_asks_readiness,
        "A server that is not ready, since it drains or a database is down, is killed, which cures nothing and takes the \
         whole fleet down at once",
        "Let liveness ask whether the process is worth keeping, such as /health";
    "liveness-timeout-short", Warning, liveness_timeout,
        "A server whose cores are busy with a batch answers a probe late, and a timeout of one second kills it for \
         being used",
        "Give liveness timeoutSeconds of 5";
    "readiness-equals-liveness", Warning, readiness_equals_liveness,
        "What fails one fails the other, so that a pod is killed where it should only get no requests",
        "Let readiness ask /ready and liveness /health, or over gRPC the services readiness and liveness";
    "readiness-missing", Warning, readiness_missing,
        "A Service sends requests to the pod as soon as its process runs, and while it is being shut down",
        "Give the container a readiness probe";
    "readiness-grpc-unnamed", Warning, readiness_grpc_unnamed,
        "torchpod's gRPC health service without a name is the verdict of /health, which is SERVING while models load",
        "Ask for service: readiness";
}

fn liveness_asks_readiness(context: &Context<'_>) -> Vec<Found> {
    let check = |probe: &Probe<'_>| {
        let question = probe.question()?;
        let path = question.trim_end_matches('/').to_lowercase();
        let http =
            probe.spec.http_get.is_some() && ["/ready", "/readyz", "/readiness"].iter().any(|one| path.ends_with(one));
        let grpc =
            probe.spec.grpc.is_some() && ["readiness", "inference.GRPCInferenceService"].contains(&question.as_str());
        let exec = probe.spec.exec.is_some() && question.contains("probe ready");
        (http || grpc || exec).then(|| Found::at(&probe.place, format!("liveness asks {question}")))
    };
    context
        .cluster
        .probes()
        .filter(|probe| probe.kind == ProbeKind::Liveness)
        .filter_map(|probe| check(&probe))
        .collect()
}

fn liveness_timeout(context: &Context<'_>) -> Vec<Found> {
    let liveness = context.cluster.probes().filter(|probe| probe.kind == ProbeKind::Liveness);
    // A kernel accepts a connection, however busy the server is.
    let asks = liveness.filter(|probe| probe.spec.tcp_socket.is_none() && probe.question().is_some());
    let short = asks.filter(|probe| probe.spec.timeout_seconds.unwrap_or(1) <= 1);
    short.map(|probe| Found::at(&probe.place, "liveness has one second to answer")).collect()
}

fn readiness_equals_liveness(context: &Context<'_>) -> Vec<Found> {
    let check = |container: &Container<'_>| {
        let (live, ready) = (container.probe(ProbeKind::Liveness)?, container.probe(ProbeKind::Readiness)?);
        let same = live.spec.http_get == ready.spec.http_get
            && live.spec.grpc == ready.spec.grpc
            && live.spec.exec == ready.spec.exec;
        // A TCP probe has only one question to ask.
        let asks = live.question()?;
        same.then(|| Found::at(&ready.place, format!("readiness asks {asks:?}, and so does liveness")))
    };
    context.cluster.containers().filter_map(|container| check(&container)).collect()
}

fn readiness_missing(context: &Context<'_>) -> Vec<Found> {
    let mut served = HashSet::new();
    for (object, service) in context.cluster.all::<Service>() {
        let Some(spec) = &service.spec else { continue };
        let Some(selector) = spec.selector.as_ref().filter(|_| spec.publish_not_ready_addresses != Some(true)) else {
            continue;
        };
        // Behind a headless Service are peers that find each other by name.
        if spec.cluster_ip.as_deref() != Some("None") {
            let selected = context.cluster.selected(object.namespace.as_deref(), selector);
            served.extend(selected.into_iter().map(|workload| std::ptr::from_ref(workload.object)));
        }
    }
    let behind =
        context.cluster.workloads.iter().filter(|workload| served.contains(&std::ptr::from_ref(workload.object)));
    let behind = behind.filter(|workload| workload.serves());
    let unready = behind.filter(|workload| workload.containers().all(|one| one.probe(ProbeKind::Readiness).is_none()));
    unready
        .map(|workload| {
            Found::at(
                &workload.pod_place().key("containers"),
                "a Service selects this pod, and no container has a readiness probe",
            )
        })
        .collect()
}

fn readiness_grpc_unnamed(context: &Context<'_>) -> Vec<Found> {
    let readiness = context.cluster.probes().filter(|probe| probe.kind == ProbeKind::Readiness);
    let unnamed = readiness.filter(|probe| {
        let service = probe.spec.grpc.as_ref().map(|grpc| grpc.service.as_deref().unwrap_or_default());
        service == Some("") && Server::of(&probe.container).is_some()
    });
    unnamed.map(|probe| Found::at(&probe.place.key("grpc"), "readiness asks for no service by name")).collect()
}
