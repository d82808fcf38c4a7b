//! A Deployment and its pods, as far as a release asks: how many there shall be, how many of them serve, and what keeps
//! the others from it. Pods are counted themselves: a Deployment's own numbers lag behind, and know nothing of images.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;

use super::record::{Record, Unreadable, moved_at};
use super::trouble;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    pub name: String,
    /// What a patch has to find unchanged.
    pub version: String,
    pub size: i32,
    pub image: String,
    /// Pods that have this image, and have been ready for `minReadySeconds`.
    pub ready: i32,
    /// Whether there is no pod of before any more, and the controller has seen what is wanted.
    pub is_settled: bool,
    /// When this program last changed it.
    pub moved: Option<Timestamp>,
    /// Since when a pod is missing or not ready.
    pub unready_since: Option<Timestamp>,
    /// How long a pod may be not ready: `progressDeadlineSeconds`.
    pub deadline: Duration,
    /// What does not go away by waiting.
    pub trouble: Option<String>,
    /// What is waited for, where pods say so.
    pub pending: Option<String>,
    pub record: Option<Record>,
}

/// Why a Deployment cannot be looked at.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Odd {
    #[error("{name} has no container {container}; it has {has}")]
    NoContainer { name: String, container: String, has: String },
    #[error("{name} has several containers: say which by --container, one of {has}")]
    WhichContainer { name: String, has: String },
    #[error("{name}: {unreadable}")]
    Unreadable { name: String, unreadable: Unreadable },
}

impl Track {
    /// `pods` are all that the Deployment's selector matches.
    pub fn of(deployment: &Deployment, pods: &[Pod], container: Option<&str>, now: Timestamp) -> Result<Track, Odd> {
        let name = deployment.metadata.name.clone().unwrap_or_default();
        let container = which(deployment, container)?;
        let spec = &deployment.spec;
        let size = spec.replicas.unwrap_or(1);
        let patience = Duration::from_secs(u64::try_from(spec.min_ready_seconds.unwrap_or(0)).unwrap_or(0));
        let image = container.image.clone().unwrap_or_default();
        let own: Vec<&Pod> = pods.iter().filter(|pod| is_current(pod, &container.name, &image)).collect();
        let serves = |pod: &&&Pod| ready_since(pod).is_some_and(|since| passed(since, now) >= patience);
        let ready = count(own.iter().filter(serves).count());
        let annotations = deployment.metadata.annotations.clone().unwrap_or_default();
        let moved = moved_at(&annotations);
        let missing = moved.filter(|_| count(own.len()) < size);
        let unready_since = own.iter().filter_map(|pod| unready_since(pod)).chain(missing).min();
        let record =
            Record::read(&annotations).map_err(|unreadable| Odd::Unreadable { name: name.clone(), unreadable })?;
        Ok(Track {
            name,
            version: deployment.metadata.resource_version.clone().unwrap_or_default(),
            size,
            image,
            ready,
            is_settled: is_settled(deployment, size),
            moved,
            unready_since: unready_since.filter(|_| ready < size),
            deadline: Duration::from_secs(
                u64::try_from(spec.progress_deadline_seconds.unwrap_or(600)).unwrap_or(u64::MAX),
            ),
            trouble: own.iter().find_map(|pod| trouble::lasting(pod)),
            pending: own.iter().find_map(|pod| trouble::passing(pod)).or_else(|| trouble::no_pods(deployment)),
            record,
        })
    }

    pub fn is_ready(&self) -> bool {
        self.is_settled && self.ready == self.size
    }

    /// As if all pods had come up.
    pub(super) fn serve(&mut self) {
        (self.ready, self.is_settled, self.unready_since) = (self.size, true, None);
        (self.trouble, self.pending) = (None, None);
    }

    /// How long a pod has been missing or not ready, where that is too long.
    pub fn overdue(&self, now: Timestamp) -> Option<Duration> {
        self.unready_since.map(|since| passed(since, now)).filter(|unready| *unready > self.deadline)
    }
}

/// The container that runs the model: the one that is named, or the only one, or the one that kubectl would take.
pub fn which<'a>(deployment: &'a Deployment, named: Option<&str>) -> Result<&'a Container, Odd> {
    let template = &deployment.spec.template;
    let containers: &[Container] = template.spec.as_ref().map_or(&[], |spec| &spec.containers);
    let annotations = template.metadata.as_ref().and_then(|metadata| metadata.annotations.as_ref());
    let annotated = annotations.and_then(|annotations| annotations.get("kubectl.kubernetes.io/default-container"));
    let name = deployment.metadata.name.clone().unwrap_or_default();
    let has = || containers.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", ");
    match (named.or(annotated.map(String::as_str)), containers) {
        (None, [only]) => Ok(only),
        (None, _) => Err(Odd::WhichContainer { name, has: has() }),
        (Some(named), _) => containers.iter().find(|one| one.name == named).ok_or_else(|| Odd::NoContainer {
            name,
            container: named.to_owned(),
            has: has(),
        }),
    }
}

/// Whether a pod runs this image in this container, and stays: what was evicted is listed for long, and is no pod any more.
pub fn is_current(pod: &Pod, container: &str, image: &str) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut same = containers.filter(|one| one.name == container && one.image.as_deref() == Some(image));
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let has_ended = pod.metadata.deletion_timestamp.is_some() || matches!(phase, Some("Failed" | "Succeeded"));
    !has_ended && same.next().is_some()
}

/// The `Ready` condition: since when it is what.
fn readiness(pod: &Pod) -> Option<(bool, Timestamp)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    let since = ready.last_transition_time.as_ref().or(pod.metadata.creation_timestamp.as_ref())?;
    Some((ready.status == "True", since.0))
}

pub fn ready_since(pod: &Pod) -> Option<Timestamp> {
    readiness(pod).filter(|(ready, _)| *ready).map(|(_, since)| since)
}

fn unready_since(pod: &Pod) -> Option<Timestamp> {
    match readiness(pod) {
        Some((true, _)) => None,
        Some((false, since)) => Some(since),
        None => pod.metadata.creation_timestamp.as_ref().map(|created| created.0),
    }
}

/// What `kubectl rollout status` waits for, but for the pods' readiness.
fn is_settled(deployment: &Deployment, size: i32) -> bool {
    let Some(status) = &deployment.status else { return false };
    let seen = status.observed_generation >= deployment.metadata.generation;
    seen && status.updated_replicas.unwrap_or(0) == size && status.replicas.unwrap_or(0) == size
}

/// None of it, where clocks disagree.
fn passed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

fn count(pods: usize) -> i32 {
    i32::try_from(pods).unwrap_or(i32::MAX)
}
