//! Which Service stands in front of which Deployments, and who is behind it right now.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::api::Api;
use super::cutover::{Front, switch, switched};
use super::error::Error;
use super::find::{Side, labels, name_of, pods};
use super::track::{Track, which};
use crate::cluster::{is_name, matches};

/// Everything that a cutover looks at.
#[derive(Clone, Debug)]
pub struct Scene {
    pub front: Front,
    /// The value that leads to `new`.
    pub to: String,
    pub container: String,
    pub new: Side,
    pub old: Option<Side>,
    /// Pods behind the Service that are not on their way out.
    pub behind: BTreeSet<String>,
}

pub struct Wanted<'a> {
    pub name: &'a str,
    pub to: &'a str,
    pub service: Option<&'a str>,
    pub container: Option<&'a str>,
}

pub async fn scene(api: &Api<'_>, wanted: &Wanted<'_>) -> Result<Scene, Error> {
    let (all, services) = tokio::try_join!(api.list::<Deployment>(None), api.list::<Service>(None))?;
    let full = format!("{}-{}", wanted.name, wanted.to);
    let new =
        all.iter().find(|one| name_of(*one) == full).or_else(|| all.iter().find(|one| name_of(*one) == wanted.to));
    let Some(new) = new else {
        let names: Vec<_> = all.iter().map(name_of).collect();
        let namespace = api.namespace.clone();
        let hint = format!("; there are {}", names.join(", "));
        return Err(Error::Missing { kind: "Deployment".to_owned(), name: full, namespace, hint });
    };
    let front = front(&services, &all, new, wanted.service)?;
    scene_of(api, front, &all, new, wanted.container).await
}

/// The same for the way back: from where it is to where it was.
pub async fn last(api: &Api<'_>, name: &str, service: Option<&str>) -> Result<Option<Scene>, Error> {
    let (all, services) = tokio::try_join!(api.list::<Deployment>(None), api.list::<Service>(None))?;
    let is_meant = |one: &&Service| match service {
        Some(named) => name_of(*one) == named,
        None => {
            name_of(*one) == name || behind(&all, one).iter().any(|one| name_of(*one).starts_with(&format!("{name}-")))
        }
    };
    let fronts = services.iter().filter(is_meant).filter_map(|one| Front::of(one, switched(one)?));
    let fronts: Vec<Front> = fronts.collect();
    let [front] = fronts.as_slice() else {
        let names: Vec<_> = fronts.iter().map(|front| front.service.as_str()).collect();
        return match names.as_slice() {
            [] => Ok(None),
            _ => Err(Error::Refused(format!(
                "several Services were cut over: say which by --service, of {}",
                names.join(", ")
            ))),
        };
    };
    let service = services.iter().find(|one| name_of(*one) == front.service);
    let Some(new) = service.and_then(|service| behind(&all, service).first().copied()) else { return Ok(None) };
    scene_of(api, front.clone(), &all, new, None).await.map(Some)
}

async fn scene_of(
    api: &Api<'_>,
    front: Front,
    all: &[Deployment],
    new: &Deployment,
    container: Option<&str>,
) -> Result<Scene, Error> {
    let to = labels(new).get(&front.key).cloned().unwrap_or_default();
    let other = if front.value == to { front.previous.clone() } else { Some(front.value.clone()) };
    let like_new = |one: &&Deployment| {
        let (mut mine, mut theirs) = (labels(new), labels(one));
        let value = theirs.remove(&front.key);
        mine.remove(&front.key);
        value == other && name_of(*one) != name_of(new) && app(&mine) == app(&theirs)
    };
    let now = api.now();
    let side = async |deployment: &Deployment| {
        let pods: Vec<Pod> = pods(api, deployment).await?;
        Ok::<_, Error>(Side { track: Track::of(deployment, &pods, container, now)?, pods })
    };
    let old = match all.iter().find(like_new) {
        Some(old) => Some(side(old).await?),
        None => None,
    };
    let slices: Vec<EndpointSlice> = api.list(Some(&format!("kubernetes.io/service-name={}", front.service))).await?;
    let container = which(new, container)?.name.clone();
    Ok(Scene { new: side(new).await?, to, container, old, behind: endpoints(&slices), front })
}

/// The labels that say which application it is.
fn app(labels: &BTreeMap<String, String>) -> Vec<(&String, &String)> {
    labels.iter().filter(|(key, _)| is_name(key)).collect()
}

/// The only Service that leads to the new one, or would by another value of one label.
fn front(services: &[Service], all: &[Deployment], new: &Deployment, named: Option<&str>) -> Result<Front, Error> {
    let fronts = services.iter().filter(|service| named.is_none_or(|named| name_of(*service) == named));
    let fronts: Vec<Front> = fronts.filter_map(|service| Front::of(service, &key(service, all, new)?)).collect();
    match fronts.as_slice() {
        [front] => Ok(front.clone()),
        [] => Err(Error::Refused(format!(
            "no Service{} chooses between {} and another Deployment by one label of its selector, such as version",
            named.map_or(String::new(), |named| format!(" {named}")),
            name_of(new)
        ))),
        several => Err(Error::Refused(format!(
            "several Services could be cut over to {}: say which by --service, of {}",
            name_of(new),
            several.iter().map(|front| front.service.as_str()).collect::<Vec<_>>().join(", ")
        ))),
    }
}

fn key(service: &Service, all: &[Deployment], new: &Deployment) -> Option<String> {
    let selector = service.spec.as_ref()?.selector.as_ref()?;
    let to_new = switch(selector, &labels(new)).filter(|key| !is_name(key));
    // It leads to the new one already: there is another Deployment to which one label would lead.
    let leads = selector.iter().all(|(key, value)| labels(new).get(key) == Some(value));
    let kept = || switched(service).map(str::to_owned).filter(|key| selector.contains_key(key));
    let others = || all.iter().find_map(|other| switch(selector, &labels(other)).filter(|key| !is_name(key)));
    to_new.or_else(|| if leads { kept().or_else(others) } else { None })
}

/// Those whose pods a Service selects.
pub fn behind<'a>(all: &'a [Deployment], service: &Service) -> Vec<&'a Deployment> {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
    if selector.is_empty() {
        return Vec::new();
    }
    let selector = LabelSelector { match_labels: Some(selector), ..LabelSelector::default() };
    all.iter().filter(|one| matches(&selector, &labels(one))).collect()
}

/// The names of pods that get new connections.
pub fn endpoints(slices: &[EndpointSlice]) -> BTreeSet<String> {
    let all = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let ready = all.filter(|one| one.conditions.as_ref().is_none_or(|conditions| conditions.ready != Some(false)));
    ready.filter_map(|one| one.target_ref.as_ref()?.name.clone()).collect()
}
