//! Revisions: in which order templates were wanted, as `kubectl rollout history` and `undo` read it.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment as Manifest;

use crate::pod::Labels;

pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
/// What is no business of a `ReplicaSet`.
const OWN: [&str; 2] = [REVISION, "kubectl.kubernetes.io/last-applied-configuration"];

#[derive(Debug)]
pub(crate) struct Revision {
    pub(crate) template: usize,
    pub(crate) number: u64,
    pub(crate) made: Duration,
    /// The Deployment's annotations when it was last wanted.
    pub(crate) annotations: Labels,
}

/// In the order of their numbers. One that is wanted again gets a new number.
#[derive(Debug, Default)]
pub(crate) struct Revisions {
    all: Vec<Revision>,
}

impl Revisions {
    pub(crate) fn want(&mut self, template: usize, now: Duration) {
        if self.all.last().is_some_and(|last| last.template == template) {
            return;
        }
        let number = self.last() + 1;
        let known = self.all.iter().position(|one| one.template == template).map(|place| self.all.remove(place));
        let made = known.map_or(now, |known| known.made);
        self.all.push(Revision { template, number, made, annotations: Labels::new() });
    }

    pub(super) fn keep_annotations(&mut self, template: usize, of: &Manifest) {
        if let Some(revision) = self.all.iter_mut().find(|one| one.template == template) {
            revision.annotations = copied(of);
        }
    }

    pub(super) fn of(&self, template: usize) -> Option<&Revision> {
        self.all.iter().find(|one| one.template == template)
    }

    pub(super) fn last(&self) -> u64 {
        self.all.last().map_or(0, |last| last.number)
    }

    pub(super) fn before_the_last(&self) -> Option<usize> {
        self.all.iter().rev().nth(1).map(|before| before.template)
    }
}

pub(super) fn copied(deployment: &Manifest) -> Labels {
    let annotations = deployment.metadata.annotations.iter().flatten();
    annotations
        .filter(|(key, _)| !OWN.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
