//! Which Deployments of a file are rolled out: one that is updated, or a pair of which the second one is new: a canary
//! beside the stable ones, or green beside blue.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;

use super::NoPlan;
use crate::cluster::{Cluster, Labels, Workload};
use crate::server::Server;

pub(super) struct Track<'a> {
    pub(super) workload: &'a Workload<'a>,
    pub(super) deployment: &'a Deployment,
    /// What its first version is called, in a pair.
    pub(super) name: Option<String>,
    pub(super) is_new: bool,
    /// Whether the Service sends it requests.
    pub(super) served: bool,
}

type Candidate<'a> = (&'a Workload<'a>, &'a Deployment);

pub(super) fn choose<'a>(cluster: &'a Cluster<'_>, wanted: Option<&str>) -> Result<Vec<Track<'a>>, NoPlan> {
    let all: Vec<Candidate<'_>> = cluster.workloads.iter().filter_map(|one| Some((one, one.deployment()?))).collect();
    let names = |some: &[Candidate<'_>]| some.iter().map(|(one, _)| one.object.name.clone()).collect::<Vec<_>>().join(", ");
    let alone = |(workload, deployment): Candidate<'a>| {
        vec![Track { workload, deployment, name: None, is_new: false, served: true }]
    };
    if let Some(wanted) = wanted {
        let found = all.iter().find(|(one, _)| one.object.name == wanted);
        return found.map(|one| alone(*one)).ok_or_else(|| NoPlan::NoSuch(wanted.to_owned(), names(&all)));
    }
    if let Some(pair) = pair(cluster, &all) {
        return Ok(pair);
    }
    let serve = |(workload, _): &&Candidate<'_>| workload.containers().any(|container| Server::of(&container).is_some());
    let servers: Vec<_> = all.iter().filter(serve).copied().collect();
    match (&all[..], &servers[..]) {
        ([], _) => Err(NoPlan::NoDeployment),
        ([only], _) | (_, [only]) => Ok(alone(*only)),
        (_, []) => Err(NoPlan::Several(names(&all))),
        (_, several) => Err(NoPlan::Several(names(several))),
    }
}

/// Two Deployments whose pods' labels have the same names and differ in a value, behind a Service that selects one of
/// them or both.
fn pair<'a>(cluster: &'a Cluster<'_>, all: &[Candidate<'a>]) -> Option<Vec<Track<'a>>> {
    for (place, (one, first)) in all.iter().enumerate() {
        for (other, second) in &all[place + 1..] {
            let Some(key) = difference(one.labels, other.labels) else { continue };
            let namespace = one.object.namespace.as_deref();
            if namespace != other.object.namespace.as_deref() {
                continue;
            }
            let selected = cluster.all::<Service>().filter_map(|(object, service)| {
                let selector = service.spec.as_ref()?.selector.as_ref()?;
                let in_it = object.namespace.as_deref() == namespace;
                let means = |labels: &Labels| selector.iter().all(|(key, value)| labels.get(key) == Some(value));
                in_it.then(|| (means(one.labels), means(other.labels))).filter(|(one, other)| *one || *other)
            });
            let selected = selected.fold(None, |all: Option<(bool, bool)>, now| {
                let all = all.unwrap_or_default();
                Some((all.0 || now.0, all.1 || now.1))
            });
            let Some(selected) = selected else { continue };
            let replicas = |workload: &Workload<'_>| workload.replicas.unwrap_or(1);
            let first_is_old = match selected {
                (true, true) => replicas(one) >= replicas(other),
                (first, _) => first,
            };
            let name = |workload: &Workload<'_>| workload.labels.get(key).cloned();
            let (is_new, served) = (!first_is_old, selected.0);
            let first = Track { workload: one, deployment: first, name: name(one), is_new, served };
            let (is_new, served) = (first_is_old, selected.1);
            let second = Track { workload: other, deployment: second, name: name(other), is_new, served };
            return Some(if first_is_old { vec![first, second] } else { vec![second, first] });
        }
    }
    None
}

/// The label that tells them apart: `track`, where it is among several.
fn difference<'a>(one: &'a Labels, other: &Labels) -> Option<&'a str> {
    let same_names = one.len() == other.len() && one.keys().all(|key| other.contains_key(key));
    let mut differing = one.iter().filter(|(key, value)| other.get(*key) != Some(*value)).map(|(key, _)| key.as_str());
    let first = differing.next().filter(|_| same_names)?;
    Some(if differing.any(|key| key == "track") { "track" } else { first })
}
