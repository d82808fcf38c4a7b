//! What stands: who serves, with which image, how far a canary is, and who is at it. Pure, but for the look around.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use serde::Serialize;

use super::api::Api;
use super::cutover::{self, switched};
use super::error::Error;
use super::find::{Side, name_of, pods};
use super::front::{behind, endpoints};
use super::record::{Phase, Record};
use super::track::{Track, which};

/// Everything in one object, as `--output json` has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    pub name: String,
    pub namespace: String,
    pub services: Vec<Front>,
    pub deployments: Vec<One>,
    /// The last canary, under way or not.
    pub canary: Option<Canary>,
    /// Who is at it, if anybody.
    pub holder: Option<String>,
}

/// A Service, and how many of each Deployment's pods are behind it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Front {
    pub name: String,
    pub selector: BTreeMap<String, String>,
    pub endpoints: BTreeMap<String, usize>,
    /// What it selected before the last cutover, as `version=blue`.
    pub previous: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct One {
    pub name: String,
    pub image: String,
    pub replicas: i32,
    pub ready: i32,
    /// Whether a Service sends to it.
    pub serves: bool,
    /// What keeps it from being ready.
    pub pending: Option<String>,
    /// Requests within the sample; nothing, where its pods could not be read.
    pub requests: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Canary {
    pub phase: String,
    pub step: Option<u32>,
    pub steps: String,
    pub old: String,
    pub new: String,
    pub pods: i32,
    pub started: String,
    pub verdict: Option<String>,
    pub reason: Option<String>,
}

/// What was found for a name, with the pods of each.
pub struct Found {
    pub deployments: Vec<(Deployment, Side, String)>,
    services: Vec<(Service, Vec<EndpointSlice>)>,
    lease: Option<Lease>,
    now: Timestamp,
}

/// The Deployments NAME and NAME-…, and those behind the Service NAME.
pub async fn find(api: &Api<'_>, name: &str) -> Result<Found, Error> {
    let (all, services) = tokio::try_join!(api.list::<Deployment>(None), api.list::<Service>(None))?;
    let named = services.iter().find(|service| name_of(*service) == name);
    let meant = named.map(|service| behind(&all, service)).unwrap_or_default();
    let is_meant = |one: &&Deployment| {
        let own = name_of(*one);
        own == name || own.starts_with(&format!("{name}-")) || meant.iter().any(|other| name_of(*other) == own)
    };
    let now = api.now();
    let mut deployments = Vec::new();
    for deployment in all.iter().filter(is_meant) {
        let pods = pods(api, deployment).await?;
        let record = super::record::Record::read(&deployment.metadata.annotations.clone().unwrap_or_default());
        let container = record.ok().flatten().map(|record| record.container);
        let containers = deployment.spec.template.spec.as_ref().map(|spec| spec.containers.as_slice());
        // Of several containers, the first: here nothing is changed.
        let first = || containers.and_then(|all| all.first()).map(|first| first.name.clone());
        let container = container.or_else(|| which(deployment, None).is_err().then(first).flatten());
        let track = Track::of(deployment, &pods, container.as_deref(), now)?;
        let container = which(deployment, container.as_deref())?.name.clone();
        deployments.push((deployment.clone(), Side { track, pods }, container));
    }
    if deployments.is_empty() {
        let there: Vec<_> = all.iter().map(name_of).collect();
        let hint = if there.is_empty() { String::new() } else { format!("; there are {}", there.join(", ")) };
        let namespace = api.namespace.clone();
        return Err(Error::Missing {
            kind: "Deployment".to_owned(),
            name: format!("{name}, or {name}-…"),
            namespace,
            hint,
        });
    }
    let mut fronts = Vec::new();
    for service in services {
        let selected = behind(&all, &service);
        if deployments.iter().any(|(one, ..)| selected.iter().any(|other| name_of(*other) == name_of(one))) {
            let selector = format!("kubernetes.io/service-name={}", name_of(&service));
            let slices = api.list(Some(&selector)).await?;
            fronts.push((service, slices));
        }
    }
    let lease = api.find(&format!("torchpod-{name}")).await?;
    Ok(Found { deployments, services: fronts, lease, now })
}

impl Status {
    /// `requests` are those of each Deployment within the sample.
    pub fn of(name: &str, namespace: &str, found: &Found, requests: &BTreeMap<String, u64>) -> Status {
        let mut services = Vec::new();
        for (service, slices) in &found.services {
            let behind = endpoints(slices);
            let mut count = BTreeMap::new();
            for (_, side, _) in &found.deployments {
                let own = side.pods.iter().filter(|pod| behind.contains(name_of(*pod))).count();
                if own > 0 {
                    count.insert(side.track.name.clone(), own);
                }
            }
            let front = switched(service).and_then(|key| cutover::Front::of(service, key));
            let previous = front.and_then(|front| Some(format!("{}={}", front.key, front.previous?)));
            let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
            services.push(Front { name: name_of(service).to_owned(), selector, endpoints: count, previous });
        }
        let deployments = found.deployments.iter().map(|(_, side, _)| {
            let track = &side.track;
            One {
                name: track.name.clone(),
                image: track.image.clone(),
                replicas: track.size,
                ready: track.ready,
                serves: services.iter().any(|service| service.endpoints.contains_key(&track.name)),
                pending: track.trouble.clone().or(track.pending.clone()),
                requests: requests.get(&track.name).copied(),
            }
        });
        let deployments = deployments.collect();
        let canary = found.deployments.iter().find_map(|(_, side, _)| side.track.record.as_ref()).map(Canary::of);
        let holder = found.lease.as_ref().and_then(|lease| alive(lease, found.now));
        Status { name: name.to_owned(), namespace: namespace.to_owned(), services, deployments, canary, holder }
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let width = |of: fn(&One) -> usize| self.deployments.iter().map(of).max().unwrap_or(0);
        let (names, images) = (width(|one| one.name.len()), width(|one| one.image.len()));
        for one in &self.deployments {
            let serves = if one.serves { "serves" } else { "does not serve" };
            let requests = one.requests.map_or(String::new(), |requests| match requests {
                0 => ", no request now".to_owned(),
                some => format!(", {some} requests just now"),
            });
            let pending = one.pending.as_ref().map_or(String::new(), |pending| format!(" ({pending})"));
            let (name, image, ready, replicas) = (&one.name, &one.image, one.ready, one.replicas);
            let _ =
                writeln!(text, "{name:names$}  {image:images$}  {ready}/{replicas} ready, {serves}{requests}{pending}");
        }
        for service in &self.services {
            let selector: Vec<_> = service.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let endpoints: Vec<_> =
                service.endpoints.iter().map(|(name, count)| format!("{count} of {name}")).collect();
            let endpoints = if endpoints.is_empty() { "nobody".to_owned() } else { endpoints.join(", ") };
            let previous = service.previous.as_ref().map_or(String::new(), |before| format!(", before {before}"));
            let _ = writeln!(text, "{} selects {}{previous}: {endpoints}", service.name, selector.join(","));
        }
        if let Some(canary) = &self.canary {
            let step = canary.step.map_or(String::new(), |step| format!(" at {step} %"));
            let (phase, old, new) = (&canary.phase, &canary.old, &canary.new);
            let (steps, pods, started) = (&canary.steps, canary.pods, &canary.started);
            let _ =
                writeln!(text, "canary: {phase}{step}, {old} → {new}, steps {steps} of {pods} pods, since {started}");
            for (what, said) in [("verdict", &canary.verdict), ("reason", &canary.reason)] {
                if let Some(said) = said {
                    let _ = writeln!(text, "{what}: {said}");
                }
            }
        }
        if let Some(holder) = &self.holder {
            let _ = writeln!(text, "at it: {holder}");
        }
        text
    }
}

impl Canary {
    fn of(record: &Record) -> Canary {
        let step = match record.phase {
            Phase::Stepping { percent } => Some(percent),
            _ => None,
        };
        Canary {
            phase: record.phase.to_string(),
            step,
            steps: record.shares.to_string(),
            old: record.old.clone(),
            new: record.new.clone(),
            pods: record.total,
            started: format!("{:.0}", record.started),
            verdict: record.verdict.clone(),
            reason: record.reason.clone(),
        }
    }
}

/// Whoever holds the Lease, unless it was not renewed in time.
fn alive(lease: &Lease, now: Timestamp) -> Option<String> {
    let spec = lease.spec.as_ref()?;
    let (holder, renewed) = (spec.holder_identity.clone()?, spec.renew_time.as_ref()?.0);
    let age = now.duration_since(renewed).as_secs();
    (!holder.is_empty() && age <= i64::from(spec.lease_duration_seconds.unwrap_or(0))).then_some(holder)
}
