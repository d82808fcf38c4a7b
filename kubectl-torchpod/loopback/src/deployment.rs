//! A Deployment that runs: the arithmetic of `kubectl_torchpod::rollout`, applied to real pods.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment as Manifest;
use kubectl_torchpod::rollout::{Action, Condition, Controller, End, Observed, Progress, Spec, Template, available_at};

use crate::pod::Blueprint;
use crate::process::Version;
use crate::scale::Scale;

pub struct Deployment {
    pub name: String,
    pub spec: Spec,
    controller: Controller,
    progress: Progress,
    /// By template.
    pub blueprints: Vec<Arc<Blueprint>>,
    /// Templates in the order in which they were wanted last.
    revisions: Vec<usize>,
    /// The fewest available pods, and the most that were not ending, since somebody began to watch.
    pub watched: Watched,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    pub least: i32,
    pub most: i32,
}

impl Watched {
    pub const NOTHING: Watched = Watched { least: i32::MAX, most: 0 };
}

impl Deployment {
    pub fn new(manifest: &Manifest, version: Version, scale: Scale) -> Deployment {
        let name = manifest.metadata.name.clone().expect("it has a name");
        let mut spec = Spec::of(manifest);
        spec.template = Template(0);
        spec.replicas = spec.replicas.min(scale.most);
        let template = &manifest.spec.template;
        let labels = template.metadata.as_ref().and_then(|metadata| metadata.labels.clone()).expect("pods have labels");
        let pod = template.spec.clone().expect("pods have a spec");
        let blueprint = Blueprint { labels, spec: pod, version };
        let controller = Controller::running(&spec);
        let progress = Progress::complete(&spec, controller.sets());
        let blueprints = vec![Arc::new(blueprint)];
        Deployment { name, spec, controller, progress, blueprints, revisions: vec![0], watched: Watched::NOTHING }
    }

    /// Another image, with `change` made to the pod besides.
    pub fn update(&mut self, blueprint: Blueprint, now: Duration) {
        self.blueprints.push(Arc::new(blueprint));
        self.roll_to(self.blueprints.len() - 1, now);
    }

    /// What `kubectl rollout undo` does: the revision before the last is wanted again, and is the last one from now on.
    pub fn undo(&mut self, now: Duration) {
        let [.., before, _] = self.revisions[..] else { panic!("there was no revision before") };
        self.roll_to(before, now);
    }

    fn roll_to(&mut self, template: usize, now: Duration) {
        self.revisions.retain(|revision| *revision != template);
        self.revisions.push(template);
        self.spec.template = Template(u32::try_from(template).expect("a few templates"));
        self.progress.restart(now);
    }

    /// What to do now; call it until there is nothing, since it does little at a time.
    pub fn next(&mut self, pods: &[Observed<usize>], now: Duration) -> Vec<Action<usize>> {
        loop {
            let before = self.sizes();
            let actions = self.controller.next(&self.spec, pods, now);
            self.progress = self.progress.next(&self.spec, self.controller.sets(), now);
            if !actions.is_empty() || before == self.sizes() {
                return actions;
            }
        }
    }

    pub fn is_done(&self, pods: &[Observed<usize>], now: Duration) -> bool {
        self.controller.is_done(&self.spec, pods, now)
    }

    pub fn has_missed_its_deadline(&self) -> bool {
        self.progress.condition == Condition::DeadlineExceeded
    }

    /// When to look again, though no pod has changed.
    pub fn look_at(&self, pods: &[Observed<usize>], now: Duration) -> Option<Duration> {
        let available = Controller::look_at(&self.spec, pods, now);
        let deadline = self.progress.check_at(&self.spec).filter(|at| *at > now);
        available.into_iter().chain(deadline).min()
    }

    /// The sizes of its `ReplicaSet`s that are not empty.
    pub fn sizes(&self) -> Vec<(Template, i32)> {
        self.controller.sets().iter().map(|set| (set.template, set.size)).filter(|(_, size)| *size > 0).collect()
    }

    pub fn watch(&mut self, pods: &[Observed<usize>], now: Duration) {
        let staying = || pods.iter().filter(|pod| pod.end == End::Stays);
        let is_available = |since| available_at(since, self.spec.min_ready) <= now;
        let count = |number: usize| i32::try_from(number).expect("a few pods");
        let available = count(staying().filter(|pod| pod.ready_since.is_some_and(is_available)).count());
        self.watched.least = self.watched.least.min(available);
        self.watched.most = self.watched.most.max(count(staying().count()));
    }
}
