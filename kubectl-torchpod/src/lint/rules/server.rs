//! What torchpod itself would refuse or not answer.

use crate::cluster::{Container, Probe};
use crate::lint::finding::Found;
use crate::lint::rule::{Context, rules};
use crate::server::{self, Server};

rules! {
    "probe-question-unknown", Error, question_unknown,
        "torchpod has no such path or service, so that the probe fails for ever",
        "Ask /startup, /health or /ready; over gRPC startup, liveness or readiness; by exec torchpod probe health";
    "server-setting-refused", Error, setting_refused,
        "torchpod ends at once with a message, and the pod never starts",
        "Write a time with its unit, such as 30s, and an address with its port, such as 0.0.0.0:8080";
    "grace-told-wrong", Warning, grace_told,
        "torchpod warns of a drain that does not fit into the grace period that it is told: told another than the pod's, \
         it is silent when it should not be",
        "Write the pod's terminationGracePeriodSeconds";
}

fn servers<'a>(context: &'a Context<'_>) -> impl Iterator<Item = Container<'a>> {
    context.cluster.containers().filter(|container| Server::of(container).is_some())
}

fn question_unknown(context: &Context<'_>) -> Vec<Found> {
    let probes = context.cluster.probes().filter(|probe| Server::of(&probe.container).is_some());
    let unknown = probes.filter(|probe| !may_answer(probe));
    let what = |probe: &Probe<'_>| {
        let question = probe.question().unwrap_or_default();
        format!("the {} probe asks {question:?}, which torchpod does not know", probe.kind)
    };
    unknown.map(|probe| Found::at(&probe.place, what(&probe))).collect()
}

fn may_answer(probe: &Probe<'_>) -> bool {
    let Some(question) = probe.question() else { return true };
    if probe.spec.http_get.is_some() {
        let path = question.split('?').next().unwrap_or_default();
        // What is below these depends on the models.
        return server::PATHS.contains(&path) || ["/v1/", "/v2"].iter().any(|prefix| path.starts_with(prefix));
    }
    if probe.spec.grpc.is_some() {
        return server::SERVICES.contains(&question.as_str());
    }
    let words: Vec<&str> = question.split_whitespace().collect();
    match words.as_slice() {
        [program, "probe", asked, ..] if program.rsplit('/').next() == Some("torchpod") => {
            asked.starts_with('-') || server::QUESTIONS.contains(asked)
        }
        _ => true,
    }
}

fn setting_refused(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for container in servers(context) {
        let refused = server::refused(&container).into_iter();
        found.extend(refused.map(|(name, value, expected)| {
            Found::at(&container.place, format!("--{name} {value}: torchpod expects {expected}"))
        }));
    }
    found
}

fn grace_told(context: &Context<'_>) -> Vec<Found> {
    let check = |container: Container<'_>| {
        let told: i64 = server::told(&container, "termination-grace-seconds")?.parse().ok()?;
        let has = container.workload.pod.termination_grace_period_seconds.unwrap_or(30);
        let what = format!("{} is told that it has {told} s to end, and the pod has {has} s", container.spec.name);
        (told != has).then(|| Found::at(&container.place, what))
    };
    servers(context).filter_map(check).collect()
}
