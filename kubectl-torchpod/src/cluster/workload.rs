//! Whatever runs pods, whichever kind it is, in one shape.

use std::sync::LazyLock;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodTemplateSpec, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Labels;
use super::container::Container;
use super::rollout::Rollout;
use crate::manifest::{Object, Place};

static NO_LABELS: LazyLock<Labels> = LazyLock::new(Labels::new);

/// Labels that controllers give to the pods that they make.
const GIVEN: [&str; 7] = [
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/job-completion-index",
    "batch.kubernetes.io/job-name",
    "controller-revision-hash",
    "job-name",
    "pod-template-hash",
    "statefulset.kubernetes.io/pod-name",
];

pub struct Workload<'a> {
    pub object: &'a Object,
    /// The labels of its pods.
    pub labels: &'a Labels,
    pub annotations: &'a Labels,
    pub pod: &'a PodSpec,
    /// As written. None, where nothing is, or where there is no such number.
    pub replicas: Option<i32>,
    pub scaler: Option<Scaler<'a>>,
    /// Where the pod's metadata and spec are, from the object's root.
    template: &'static str,
}

/// The autoscaler that decides how many there are.
#[derive(Clone)]
pub struct Scaler<'a> {
    pub object: &'a Object,
    pub most: i32,
}

impl<'a> Workload<'a> {
    pub(super) fn of(object: &'a Object) -> Option<Workload<'a>> {
        if let Some(deployment) = object.typed::<Deployment>() {
            let spec = &deployment.spec;
            return Self::templated(object, &spec.template, spec.replicas, "spec.template");
        }
        if let Some(set) = object.typed::<StatefulSet>() {
            let spec = &set.spec;
            return Self::templated(object, &spec.template, spec.replicas, "spec.template");
        }
        if let Some(set) = object.typed::<ReplicaSet>() {
            let spec = &set.spec;
            return Self::templated(object, spec.template.as_ref()?, spec.replicas, "spec.template");
        }
        if let Some(controller) = object.typed::<ReplicationController>() {
            let spec = controller.spec.as_ref()?;
            return Self::templated(object, spec.template.as_ref()?, spec.replicas, "spec.template");
        }
        if let Some(set) = object.typed::<DaemonSet>() {
            return Self::templated(object, &set.spec.template, None, "spec.template");
        }
        if let Some(job) = object.typed::<Job>() {
            return Self::templated(object, &job.spec.as_ref()?.template, None, "spec.template");
        }
        if let Some(job) = object.typed::<CronJob>() {
            let template = &job.spec.job_template.spec.as_ref()?.template;
            return Self::templated(object, template, None, "spec.jobTemplate.spec.template");
        }
        let pod = object.typed::<Pod>()?;
        Some(Self::new(object, Some(&pod.metadata), pod.spec.as_ref()?, None, ""))
    }

    fn templated(
        object: &'a Object,
        template: &'a PodTemplateSpec,
        replicas: Option<i32>,
        at: &'static str,
    ) -> Option<Workload<'a>> {
        Some(Self::new(object, template.metadata.as_ref(), template.spec.as_ref()?, replicas, at))
    }

    fn new(
        object: &'a Object,
        metadata: Option<&'a ObjectMeta>,
        pod: &'a PodSpec,
        replicas: Option<i32>,
        template: &'static str,
    ) -> Workload<'a> {
        let labels = metadata.and_then(|metadata| metadata.labels.as_ref()).unwrap_or(&NO_LABELS);
        let annotations = metadata.and_then(|metadata| metadata.annotations.as_ref()).unwrap_or(&NO_LABELS);
        Workload { object, labels, annotations, pod, replicas, scaler: None, template }
    }

    pub fn deployment(&self) -> Option<&'a Deployment> {
        self.object.typed()
    }

    /// Of a Deployment that is updated bit by bit.
    pub fn rollout(&self) -> Option<Rollout> {
        Rollout::of(self.deployment()?)
    }

    /// Whether it is meant to go on for ever, unlike a Job or a pod that ends by itself.
    pub fn serves(&self) -> bool {
        match self.object.kind.as_str() {
            "Job" | "CronJob" => false,
            "Pod" => !matches!(self.pod.restart_policy.as_deref(), Some("Never" | "OnFailure")),
            _ => true,
        }
    }

    /// Whether its pods may get a label of a selector's when they run: one of Kubernetes' own, or, as operators do it to
    /// tell a primary from its replicas, any label of a `StatefulSet`'s pods.
    pub fn gets_later(&self, selector: &Labels) -> bool {
        let later = |key: &String| self.object.kind == "StatefulSet" || GIVEN.contains(&key.as_str());
        selector.keys().any(|key| !self.labels.contains_key(key) && later(key))
    }

    /// How many pods it comes to: the autoscaler's most, or what is written. None, where nobody says.
    pub fn most_replicas(&self) -> Option<i32> {
        match self.object.kind.as_str() {
            "Deployment" | "StatefulSet" | "ReplicaSet" | "ReplicationController" => {
                self.scaler.as_ref().map(|scaler| scaler.most).or(self.replicas)
            }
            "Pod" => Some(1),
            _ => None,
        }
    }

    /// Where its pods' template is; of a Pod, the object itself.
    pub fn template(&self) -> Place<'a> {
        let place = self.object.place();
        if self.template.is_empty() { place } else { place.key(self.template) }
    }

    pub fn pod_place(&self) -> Place<'a> {
        self.template().key("spec")
    }

    /// Its containers, and those beside it that start before and stay.
    pub fn containers(&self) -> impl Iterator<Item = Container<'_>> {
        let sidecar = |one: &Container<'_>| one.spec.restart_policy.as_deref() == Some("Always");
        self.main_containers().chain(self.init_containers().filter(sidecar))
    }

    /// Those too that end before the others start.
    pub fn all_containers(&self) -> impl Iterator<Item = Container<'_>> {
        self.main_containers().chain(self.init_containers())
    }

    fn main_containers(&self) -> impl Iterator<Item = Container<'_>> {
        let place = |index| self.pod_place().item("containers", index);
        let all = self.pod.containers.iter().enumerate();
        all.map(move |(index, spec)| Container { workload: self, spec, place: place(index) })
    }

    fn init_containers(&self) -> impl Iterator<Item = Container<'_>> {
        let place = |index| self.pod_place().item("initContainers", index);
        let all = self.pod.init_containers.iter().flatten().enumerate();
        all.map(move |(index, spec)| Container { workload: self, spec, place: place(index) })
    }
}
