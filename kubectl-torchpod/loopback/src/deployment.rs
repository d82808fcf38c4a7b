//! A Deployment that runs: the arithmetic of `kubectl_torchpod::rollout`, applied to real pods. Its clients' words, metadata
//! and spec, are kept as they were written; everything else follows from them.

mod condition;
mod revision;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment as Manifest;
use kubectl_torchpod::rollout::{
    Action, Condition, Controller, End, Observed, Progress, Set, Spec, Template, available_at,
};

use crate::blueprint::Blueprint;
use condition::Conditions;
pub(crate) use condition::Stamped;
pub(crate) use revision::{REVISION, Revision, Revisions};

pub struct Deployment {
    /// Without a status: that is computed.
    pub(crate) object: Manifest,
    controller: Controller,
    progress: Progress,
    conditions: Conditions,
    /// By template.
    pub(crate) blueprints: Vec<Arc<Blueprint>>,
    revisions: Revisions,
    /// The generation that the controllers have seen.
    pub(crate) observed: i64,
    /// It is no more, and neither shall its pods be.
    pub(crate) deleted: bool,
    /// The fewest available pods, and the most that were not ending, since somebody began to watch.
    pub watched: Watched,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    pub least: i32,
    pub most: i32,
}

impl Watched {
    pub(crate) const NOTHING: Watched = Watched { least: i32::MAX, most: 0 };
}

impl Deployment {
    pub(crate) fn new(object: Manifest, now: Duration) -> Deployment {
        let mut spec = Spec::of(&object);
        spec.template = Template(0);
        let controller = Controller::default();
        let mut progress = Progress::complete(&spec, controller.sets());
        progress.restart(now);
        let blueprints = vec![Arc::new(Blueprint::new(&object.spec.template))];
        let mut revisions = Revisions::default();
        revisions.want(0, now);
        Deployment {
            object,
            controller,
            progress,
            conditions: Conditions::new(now),
            blueprints,
            revisions,
            observed: 0,
            deleted: false,
            watched: Watched::NOTHING,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.object.metadata.name.as_deref().expect("it has a name")
    }

    pub(crate) fn namespace(&self) -> &str {
        self.object.metadata.namespace.as_deref().expect("it has a namespace")
    }

    /// What is asked for now.
    pub fn spec(&self) -> Spec {
        let mut spec = Spec::of(&self.object);
        spec.template = Template(u32::try_from(self.wanted()).expect("a few templates"));
        spec
    }

    /// Which template is wanted.
    fn wanted(&self) -> usize {
        let wanted = &self.object.spec.template;
        self.blueprints.iter().position(|one| one.template == *wanted).expect("`write` has taken note of it")
    }

    /// Takes what a client has written. Another template, or the end of a pause, starts a rollout.
    pub(crate) fn write(&mut self, mut object: Manifest, now: Duration) {
        let before = self.wanted();
        let was_paused = self.is_paused();
        if object.spec != self.object.spec {
            object.metadata.generation = Some(self.object.metadata.generation.unwrap_or(1) + 1);
        }
        self.revisions.keep_annotations(before, &self.object);
        self.object = object;
        if !self.blueprints.iter().any(|one| one.template == self.object.spec.template) {
            self.blueprints.push(Arc::new(Blueprint::new(&self.object.spec.template)));
        }
        if self.wanted() != before || (was_paused && !self.is_paused()) {
            self.progress.restart(now);
            self.conditions.restart(was_paused && !self.is_paused(), self.has_set(self.wanted()));
        }
        if !self.is_paused() {
            self.revisions.want(self.wanted(), now);
        }
    }

    fn is_paused(&self) -> bool {
        self.object.spec.paused == Some(true)
    }

    fn has_set(&self, template: usize) -> bool {
        self.controller.sets().iter().any(|set| index(set.template) == template)
    }

    /// What `kubectl rollout undo` does: the revision before the last is wanted again, and is the last one from now on.
    pub(crate) fn undo(&mut self, now: Duration) {
        let before = self.revisions.before_the_last().expect("there was a revision before");
        let mut object = self.object.clone();
        object.spec.template = self.blueprints[before].template.clone();
        self.write(object, now);
    }

    /// What to do now; call it until there is nothing, since it does little at a time.
    pub(crate) fn next(&mut self, pods: &[Observed<usize>], now: Duration) -> Vec<Action<usize>> {
        if self.deleted {
            let left = pods.iter().filter(|pod| pod.end == End::Stays);
            return left.map(|pod| Action::Delete(pod.id)).collect();
        }
        let spec = self.spec();
        loop {
            let before = self.sizes();
            let actions = self.controller.next(&spec, pods, now);
            let progress = self.progress.next(&spec, self.controller.sets(), now);
            let name = self.set_name(self.wanted());
            self.conditions.update(&spec, &self.progress, &progress, &name, now);
            self.progress = progress;
            self.observed = self.object.metadata.generation.unwrap_or(1);
            if !actions.is_empty() || before == self.sizes() {
                return actions;
            }
        }
    }

    pub(crate) fn is_done(&self, pods: &[Observed<usize>], now: Duration) -> bool {
        if self.deleted {
            return pods.iter().all(|pod| pod.end != End::Stays);
        }
        let is_seen = self.object.metadata.generation == Some(self.observed);
        is_seen && self.controller.is_done(&self.spec(), pods, now)
    }

    pub fn has_missed_its_deadline(&self) -> bool {
        self.progress.condition == Condition::DeadlineExceeded
    }

    /// When to look again, though no pod has changed.
    pub(crate) fn look_at(&self, pods: &[Observed<usize>], now: Duration) -> Option<Duration> {
        if self.deleted {
            return None;
        }
        let spec = self.spec();
        let available = Controller::look_at(&spec, pods, now);
        let deadline = self.progress.check_at(&spec).filter(|at| *at > now);
        available.into_iter().chain(deadline).min()
    }

    /// The sizes of its `ReplicaSet`s that are not empty.
    pub fn sizes(&self) -> Vec<(Template, i32)> {
        self.controller.sets().iter().map(|set| (set.template, set.size)).filter(|(_, size)| *size > 0).collect()
    }

    pub(crate) fn watch(&mut self, pods: &[Observed<usize>], now: Duration) {
        let min_ready = Spec::of(&self.object).min_ready;
        let staying = || pods.iter().filter(|pod| pod.end == End::Stays);
        let is_available = |since| available_at(since, min_ready) <= now;
        let count = |number: usize| i32::try_from(number).expect("a few pods");
        let available = count(staying().filter(|pod| pod.ready_since.is_some_and(is_available)).count());
        self.watched.least = self.watched.least.min(available);
        self.watched.most = self.watched.most.max(count(staying().count()));
    }

    pub(crate) fn progress(&self) -> &Progress {
        &self.progress
    }

    pub(crate) fn conditions(&self) -> [(&'static str, &Stamped); 2] {
        self.conditions.all()
    }

    /// The newest one's number.
    pub(crate) fn revision(&self) -> u64 {
        self.revisions.last()
    }

    /// Its `ReplicaSet`s, each with what its pods are made of.
    pub(crate) fn sets(&self) -> impl Iterator<Item = (&Set, &Blueprint, &Revision)> {
        let with_revision = |set: &'_ Set| self.revisions.of(index(set.template)).expect("a set has a revision");
        self.controller.sets().iter().map(move |set| {
            let blueprint: &Blueprint = &self.blueprints[index(set.template)];
            (set, blueprint, with_revision(set))
        })
    }

    pub(crate) fn set_name(&self, template: usize) -> String {
        format!("{}-{}", self.name(), self.blueprints[template].hash)
    }

    /// The annotations of a `ReplicaSet`: its Deployment's, as they are now or were when it was last wanted.
    pub(crate) fn set_annotations(&self, revision: &Revision) -> crate::pod::Labels {
        let own = if revision.template == self.wanted() {
            revision::copied(&self.object)
        } else {
            revision.annotations.clone()
        };
        let number = (REVISION.to_owned(), revision.number.to_string());
        own.into_iter().chain([number]).collect()
    }
}

pub(crate) fn index(template: Template) -> usize {
    usize::try_from(template.0).expect("a few templates")
}
