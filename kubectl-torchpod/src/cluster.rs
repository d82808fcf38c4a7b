//! The whole input at once: who runs pods, and which of them a selector means. Nothing here knows a rule.

mod container;
mod label;
mod rollout;
mod workload;

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::autoscaling::{v1 as autoscaling_v1, v2 as autoscaling};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

pub use container::{Container, Probe, ProbeKind};
pub use label::{is_name, is_slip, matches, spelt};
pub use rollout::{Rollout, scaled};
pub use workload::{Scaler, Workload};

use crate::manifest::{Manifests, Object, Problem, Spot};

/// A label that more workloads have than this tells nothing of one.
const NEAR: usize = 100;

/// Labels, and selectors that are one equality after the other.
pub type Labels = BTreeMap<String, String>;

/// What was given, or as much of it as belongs together, seen as the part of a cluster that it describes.
pub struct Cluster<'a> {
    pub objects: Vec<&'a Object>,
    /// What reading found in these files.
    pub problems: Vec<&'a (Spot, Problem)>,
    pub workloads: Vec<Workload<'a>>,
    /// Objects that name no namespace share one, whose name is empty.
    namespaces: HashMap<&'a str, Namespace<'a>>,
}

/// Indices of workloads.
#[derive(Default)]
struct Namespace<'a> {
    all: Vec<usize>,
    /// By label and value.
    labelled: HashMap<&'a str, HashMap<&'a str, Vec<usize>>>,
}

impl<'a> Cluster<'a> {
    pub fn new(objects: Vec<&'a Object>, problems: Vec<&'a (Spot, Problem)>) -> Cluster<'a> {
        let scalers: HashMap<_, _> = objects.iter().copied().filter_map(scaler).collect();
        let mut cluster = Cluster {
            workloads: objects.iter().copied().filter_map(Workload::of).collect(),
            objects,
            problems,
            namespaces: HashMap::new(),
        };
        for (index, workload) in cluster.workloads.iter_mut().enumerate() {
            let namespace = workload.object.namespace.as_deref();
            workload.scaler = scalers.get(&(namespace, &workload.object.kind, &workload.object.name)).cloned();
            let known = cluster.namespaces.entry(namespace.unwrap_or_default()).or_default();
            known.all.push(index);
            for (key, value) in workload.labels {
                known.labelled.entry(key).or_default().entry(value).or_default().push(index);
            }
        }
        cluster
    }

    /// One for each world.
    pub fn all_of(manifests: &'a Manifests) -> Vec<Cluster<'a>> {
        let worlds = manifests.worlds.iter().enumerate();
        let world: HashMap<usize, usize> =
            worlds.flat_map(|(world, files)| files.iter().map(move |file| (*file, world))).collect();
        let mut objects = vec![Vec::new(); manifests.worlds.len()];
        for object in &manifests.objects {
            objects[world[&object.file]].push(object);
        }
        let mut problems = vec![Vec::new(); manifests.worlds.len()];
        for problem in &manifests.problems {
            problems[world[&problem.0.file]].push(problem);
        }
        objects.into_iter().zip(problems).map(|(objects, problems)| Cluster::new(objects, problems)).collect()
    }

    /// Every object of a kind, with its typed form.
    pub fn all<T: 'static>(&self) -> impl Iterator<Item = (&'a Object, &'a T)> {
        self.objects.iter().filter_map(|object| Some((*object, object.typed::<T>()?)))
    }

    pub fn in_namespace(&self, namespace: Option<&str>) -> impl Iterator<Item = &Workload<'a>> + use<'_, 'a> {
        let known = self.namespaces.get(namespace.unwrap_or_default());
        let indices = known.map(|known| known.all.as_slice()).unwrap_or_default();
        indices.iter().map(|index| &self.workloads[*index])
    }

    /// Whose pods have all of these labels. An empty selector means nobody, as it does in a Service.
    pub fn selected(&self, namespace: Option<&str>, selector: &Labels) -> Vec<&Workload<'a>> {
        let rarest =
            selector.iter().map(|(key, value)| self.with_label(namespace, key, value)).min_by_key(|all| all.len());
        let found = rarest.unwrap_or_default().iter().map(|index| &self.workloads[*index]);
        found.filter(|workload| selector.iter().all(|(key, value)| workload.labels.get(key) == Some(value))).collect()
    }

    /// Somebody whose pods are probably meant by labels that nobody has: all but one are the same, and that one is misspelt
    /// or does not name the application.
    pub fn nearly_selected(&self, namespace: Option<&str>, selector: &Labels) -> Option<&Workload<'a>> {
        let known = self.namespaces.get(namespace.unwrap_or_default())?;
        let sharing = selector.iter().flat_map(|(key, value)| self.with_label(namespace, key, value).iter().take(NEAR));
        // A lone label is shared by nobody.
        let values = selector
            .first_key_value()
            .filter(|_| selector.len() == 1)
            .and_then(|(key, _)| known.labelled.get(key.as_str()));
        let having = values.into_iter().filter(|values| values.len() <= NEAR).flat_map(HashMap::values).flatten();
        sharing
            .chain(having)
            .map(|index| &self.workloads[*index])
            .find(|workload| label::is_near(selector, workload.labels) && !workload.gets_later(selector))
    }

    /// Whose pods a label selector means. An empty one means everybody of the namespace.
    pub fn matched(&self, namespace: Option<&str>, selector: &LabelSelector) -> Vec<&Workload<'a>> {
        let labels = selector.match_labels.as_ref().filter(|labels| !labels.is_empty());
        let candidates = match labels {
            Some(labels) => self.selected(namespace, labels),
            None => self.in_namespace(namespace).collect(),
        };
        candidates.into_iter().filter(|workload| matches(selector, workload.labels)).collect()
    }

    fn with_label(&self, namespace: Option<&str>, key: &str, value: &str) -> &[usize] {
        let known = self.namespaces.get(namespace.unwrap_or_default());
        let found = known.and_then(|known| known.labelled.get(key)?.get(value));
        found.map(Vec::as_slice).unwrap_or_default()
    }

    pub fn containers(&self) -> impl Iterator<Item = Container<'_>> {
        self.workloads.iter().flat_map(Workload::containers)
    }

    /// Those too that end before the others start.
    pub fn all_containers(&self) -> impl Iterator<Item = Container<'_>> {
        self.workloads.iter().flat_map(Workload::all_containers)
    }

    pub fn probes(&self) -> impl Iterator<Item = Probe<'_>> {
        self.containers().flat_map(|container| container.probes().collect::<Vec<_>>())
    }
}

type Target<'a> = (Option<&'a str>, &'a String, &'a String);

/// What an autoscaler scales, and between which numbers.
fn scaler(object: &Object) -> Option<(Target<'_>, Scaler<'_>)> {
    let namespace = object.namespace.as_deref();
    if let Some(scaler) = object.typed::<autoscaling::HorizontalPodAutoscaler>() {
        let spec = &scaler.spec;
        let target = (namespace, &spec.scale_target_ref.kind, &spec.scale_target_ref.name);
        return Some((target, Scaler { object, most: spec.max_replicas }));
    }
    let spec = &object.typed::<autoscaling_v1::HorizontalPodAutoscaler>()?.spec;
    let target = (namespace, &spec.scale_target_ref.kind, &spec.scale_target_ref.name);
    Some((target, Scaler { object, most: spec.max_replicas }))
}
