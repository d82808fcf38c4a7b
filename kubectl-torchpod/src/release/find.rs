//! Which two Deployments are meant, and what they are right now.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Selector;

use super::api::{Api, Kind};
use super::error::Error;
use super::track::{Track, is_current, which};
use crate::cluster::matches;

/// The names of stable and canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub stable: String,
    pub canary: String,
}

/// Both as they are, with their pods.
#[derive(Clone, Debug)]
pub struct Look {
    pub container: String,
    pub stable: Side,
    pub canary: Side,
}

#[derive(Clone, Debug)]
pub struct Side {
    pub track: Track,
    pub pods: Vec<Pod>,
}

/// `NAME-stable` and `NAME-canary`, unless they are named; or what the Service NAME selects, by its label `track`.
pub async fn names(api: &Api<'_>, name: &str, stable: Option<&str>, canary: Option<&str>) -> Result<Names, Error> {
    let names = Names {
        stable: stable.map_or_else(|| format!("{name}-stable"), str::to_owned),
        canary: canary.map_or_else(|| format!("{name}-canary"), str::to_owned),
    };
    let found: (Option<Deployment>, Option<Deployment>) =
        tokio::try_join!(api.find(&names.stable), api.find(&names.canary))?;
    if found.0.is_some() && found.1.is_some() {
        return Ok(names);
    }
    let missing = if found.0.is_some() { &names.canary } else { &names.stable };
    if stable.is_none()
        && canary.is_none()
        && let Some(names) = behind(api, name).await?
    {
        return Ok(names);
    }
    let all: Vec<Deployment> = api.list(None).await?;
    let all: Vec<_> = all.iter().filter_map(|one| one.metadata.name.as_deref()).collect();
    let hint = if all.is_empty() {
        ", nor any other one: is it another namespace (-n) or context?".to_owned()
    } else {
        format!(": name the two by --stable and --canary, of {}", all.join(", "))
    };
    let namespace = api.namespace.clone();
    Err(Error::Missing { kind: "Deployment".to_owned(), name: missing.clone(), namespace, hint })
}

async fn behind(api: &Api<'_>, service: &str) -> Result<Option<Names>, Error> {
    let Some(service) = api.find::<Service>(service).await? else { return Ok(None) };
    let selector = service.spec.and_then(|spec| spec.selector).unwrap_or_default();
    let selector = LabelSelector { match_labels: Some(selector), ..LabelSelector::default() };
    let all: Vec<Deployment> = api.list(None).await?;
    let behind = all.iter().filter(|one| matches(&selector, &labels(one)));
    let mut of_track: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for deployment in behind {
        let track = labels(deployment).get("track").cloned().unwrap_or_default();
        of_track.entry(track).or_default().extend(deployment.metadata.name.clone());
    }
    match (of_track.get("stable").map(Vec::as_slice), of_track.get("canary").map(Vec::as_slice)) {
        (Some([stable]), Some([canary])) => Ok(Some(Names { stable: stable.clone(), canary: canary.clone() })),
        _ => Ok(None),
    }
}

pub async fn look(api: &Api<'_>, names: &Names, container: Option<&str>) -> Result<Look, Error> {
    let (stable, canary) =
        tokio::try_join!(api.get::<Deployment>(&names.stable), api.get::<Deployment>(&names.canary))?;
    if matches(&stable.spec.selector, &labels(&canary)) || matches(&canary.spec.selector, &labels(&stable)) {
        return Err(Error::Refused(format!(
            "the selectors of {} and {} match each other's pods: give each a label of its own, such as track",
            names.stable, names.canary
        )));
    }
    let (of_stable, of_canary) = tokio::try_join!(pods(api, &stable), pods(api, &canary))?;
    let now = api.now();
    let side = |deployment: &Deployment, pods: Vec<Pod>| {
        let track = Track::of(deployment, &pods, container, now)?;
        Ok::<_, Error>(Side { track, pods })
    };
    let container = which(&canary, container)?.name.clone();
    Ok(Look { container, stable: side(&stable, of_stable)?, canary: side(&canary, of_canary)? })
}

/// All pods that a Deployment's selector matches.
pub async fn pods(api: &Api<'_>, deployment: &Deployment) -> Result<Vec<Pod>, Error> {
    let selector = Selector::try_from(deployment.spec.selector.clone())
        .map_err(|error| Error::Refused(format!("the selector of {} is odd: {error}", name_of(deployment))))?;
    api.list(Some(&selector.to_string())).await
}

pub fn labels(deployment: &Deployment) -> BTreeMap<String, String> {
    let metadata = deployment.spec.template.metadata.as_ref();
    metadata.and_then(|metadata| metadata.labels.clone()).unwrap_or_default()
}

pub fn name_of<K: Kind>(object: &K) -> &str {
    object.meta().name.as_deref().unwrap_or_default()
}

impl Side {
    /// Those of its newest image that stay.
    pub fn current<'a>(&'a self, container: &'a str) -> impl Iterator<Item = &'a Pod> {
        self.pods.iter().filter(move |pod| is_current(pod, container, &self.track.image))
    }
}
