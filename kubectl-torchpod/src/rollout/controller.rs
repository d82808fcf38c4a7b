//! Both controllers at once, for whoever has pods: real processes in tests, or anything else that starts and ends.

use std::time::Duration;

use super::deployment::{Change, reconcile};
use super::replica::{Candidate, victims};
use super::set::{Set, Status, available_at};
use super::spec::{Spec, Template};

/// A pod, as one sees it from outside.
#[derive(Clone, Copy, Debug)]
pub struct Observed<Id> {
    pub id: Id,
    pub template: Template,
    pub created: Duration,
    pub scheduled: bool,
    pub running: bool,
    pub ready_since: Option<Duration>,
    pub restarts: u32,
    pub end: End,
}

/// Whether a pod is leaving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Stays,
    Terminating,
    /// Its containers have ended.
    Finished,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<Id> {
    Create(Template),
    Delete(Id),
}

/// The ReplicaSets of one Deployment.
#[derive(Clone, Debug, Default)]
pub struct Controller {
    sets: Vec<Set>,
}

impl Controller {
    /// Of a Deployment that runs, as `spec` wants it.
    pub fn running(spec: &Spec) -> Controller {
        Controller { sets: vec![Set::new(spec, spec.replicas)] }
    }

    pub fn sets(&self) -> &[Set] {
        &self.sets
    }

    /// What to do now. Call it again whenever a pod has changed, and at the time that `look_at` says.
    pub fn next<Id: Copy + Eq>(&mut self, spec: &Spec, pods: &[Observed<Id>], now: Duration) -> Vec<Action<Id>> {
        for set in &mut self.sets {
            set.status = observed(set.template, spec, pods, now);
        }
        for Change { template, size } in reconcile(spec, &self.sets) {
            match self.sets.iter_mut().find(|set| set.template == template) {
                Some(set) => set.resize(spec, size),
                None => self.sets.push(Set::new(spec, size)),
            }
        }
        self.sets.iter().flat_map(|set| manage(set, pods)).collect()
    }

    /// Whether all pods are of the wanted template and available, and no others are left but those that are ending.
    pub fn is_done<Id: Copy>(&self, spec: &Spec, pods: &[Observed<Id>], now: Duration) -> bool {
        let mut templates: Vec<Template> = pods.iter().map(|pod| pod.template).collect();
        templates.sort();
        templates.dedup();
        let status = |template| observed(template, spec, pods, now);
        let others = templates.into_iter().filter(|one| *one != spec.template).map(|one| status(one).replicas).sum::<i32>();
        let new = status(spec.template);
        others == 0 && new.replicas == spec.replicas && new.available == spec.replicas
    }

    /// The next time at which a pod becomes available by waiting alone.
    pub fn look_at<Id>(spec: &Spec, pods: &[Observed<Id>], now: Duration) -> Option<Duration> {
        let ready = pods.iter().filter(|pod| pod.end == End::Stays).filter_map(|pod| pod.ready_since);
        ready.map(|since| available_at(since, spec.min_ready)).filter(|time| *time > now).min()
    }
}

fn observed<Id>(template: Template, spec: &Spec, pods: &[Observed<Id>], now: Duration) -> Status {
    let mut status = Status::default();
    for pod in pods.iter().filter(|pod| pod.template == template) {
        match pod.end {
            End::Finished => {}
            End::Terminating => status.terminating += 1,
            End::Stays => {
                status.replicas += 1;
                status.ready += i32::from(pod.ready_since.is_some());
                let available = pod.ready_since.is_some_and(|since| available_at(since, spec.min_ready) <= now);
                status.available += i32::from(available);
            }
        }
    }
    status
}

/// The ReplicaSet controller: as many pods as its size says.
fn manage<Id: Copy>(set: &Set, pods: &[Observed<Id>]) -> Vec<Action<Id>> {
    let own = pods.iter().filter(|pod| pod.template == set.template && pod.end == End::Stays);
    let own: Vec<_> = own
        .map(|pod| Candidate {
            id: pod.id,
            scheduled: pod.scheduled,
            running: pod.running,
            ready_since: pod.ready_since,
            neighbours: 1,
            restarts: pod.restarts,
            created: pod.created,
        })
        .collect();
    let size = usize::try_from(set.size).unwrap_or(0);
    if own.len() < size {
        return vec![Action::Create(set.template); size - own.len()];
    }
    let surplus = own.len() - size;
    victims(own, surplus).into_iter().map(Action::Delete).collect()
}
