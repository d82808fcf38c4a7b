//! What is kept of a simulation: every change, and the least and most of what matters.

use std::time::Duration;

use super::deployment;
use super::set::Worker;
use super::user::Act;
use super::world::World;
use crate::rollout::budget::Refused;
use crate::rollout::node::NoRoom;
use crate::rollout::spec::Template;

/// One thing that happened. Pods and sets are numbered as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Act { deployment: usize, act: Act },
    /// A ReplicaSet gets another size.
    Sized { set: usize, from: i32, to: i32 },
    /// Its controller reports new numbers.
    Reported { set: usize },
    Created { pod: usize, set: usize },
    /// No node has room for it, and those behind it wait, too.
    Waits { pod: usize, why: NoRoom },
    /// The API server refuses so many pods.
    OverQuota { set: usize, pods: usize },
    Ready { pod: usize, set: usize },
    /// A startup probe failed once too often.
    Killed { pod: usize },
    Deleted { pod: usize, set: usize },
    Gone { pod: usize, set: usize },
    /// An eviction that would break a budget.
    Refused { pod: usize, refused: Refused },
    Complete { deployment: usize },
    DeadlineExceeded { deployment: usize },
}

/// A ReplicaSet at some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    pub deployment: usize,
    pub template: Template,
    pub size: i32,
    /// Pods that are not ending, and of those the ready ones.
    pub pods: i32,
    pub ready: i32,
    /// As its controller reported it last.
    pub available: i32,
    /// Pods that are ending, until their object is gone.
    pub terminating: i32,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub at: Duration,
    pub what: What,
    /// After it, by number.
    pub sets: Vec<View>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Complete,
    /// The deadline passed, and nothing came after it.
    Deadline,
    /// Pods wait for a node or for a quota.
    Blocked,
    /// Somebody paused it.
    Paused,
    /// Nothing moves, and nobody watches a deadline.
    Stuck,
}

#[derive(Clone, Debug)]
pub struct Outcome {
    pub end: End,
    /// Until all pods of all Deployments were as wanted; None, where that did not come.
    pub duration: Option<Duration>,
    /// When a Deployment said first that its deadline had passed.
    pub deadline: Option<Duration>,
    /// When the last pod's object was gone.
    pub last_gone: Option<Duration>,
    /// What controllers reported as available, all together: the least, and the mean until the end.
    pub min_available: i32,
    pub mean_available: f64,
    pub min_ready: i32,
    pub max_pods: i32,
    pub max_pods_with_terminating: i32,
    pub max_gpus: i64,
    /// Pods that wait at the end, by Deployment.
    pub waiting: Vec<(usize, NoRoom)>,
    /// Pods that a quota refused, at the end.
    pub over_quota: bool,
    pub killed: bool,
    pub steps: Vec<Step>,
}

pub(super) struct Record {
    begin: Duration,
    now: Duration,
    views: Vec<View>,
    steps: Vec<Step>,
    min_available: i32,
    min_ready: i32,
    max_pods: i32,
    max_pods_with_terminating: i32,
    gpus: i64,
    max_gpus: i64,
    /// Available pods times nanoseconds, until the last change.
    area: f64,
    since: Duration,
    done: Vec<Option<(Duration, f64)>>,
    deadline: Option<Duration>,
    last_gone: Option<Duration>,
    over_quota: bool,
    killed: bool,
}

impl Record {
    pub(super) fn new(begin: Duration) -> Record {
        Record {
            begin,
            now: begin,
            views: Vec::new(),
            steps: Vec::new(),
            min_available: i32::MAX,
            min_ready: i32::MAX,
            max_pods: 0,
            max_pods_with_terminating: 0,
            gpus: 0,
            max_gpus: 0,
            area: 0.0,
            since: begin,
            done: Vec::new(),
            deadline: None,
            last_gone: None,
            over_quota: false,
            killed: false,
        }
    }

    pub(super) fn begin(&mut self, sets: &[Worker], deployments: &[deployment::Worker]) {
        self.done = vec![None; deployments.len()];
        self.views = sets.iter().map(|set| view(set, 0)).collect();
        self.measure();
    }

    pub(super) fn at(&mut self, now: Duration) {
        self.now = now;
    }

    /// GPUs taken, or given back.
    pub(super) fn uses(&mut self, gpus: i64) {
        self.gpus += gpus;
        self.max_gpus = self.max_gpus.max(self.gpus);
    }

    fn available(&self) -> i32 {
        self.views.iter().map(|view| view.available).sum()
    }

    fn measure(&mut self) {
        let sum = |part: fn(&View) -> i32| self.views.iter().map(part).sum::<i32>();
        let (pods, ready) = (sum(|view| view.pods), sum(|view| view.ready));
        let all = pods + sum(|view| view.terminating);
        self.min_available = self.min_available.min(self.available());
        self.min_ready = self.min_ready.min(ready);
        self.max_pods = self.max_pods.max(pods);
        self.max_pods_with_terminating = self.max_pods_with_terminating.max(all);
    }

    fn step(&mut self, what: What, sets: &[Worker]) {
        self.area += f64::from(self.available()) * (self.now - self.since).as_secs_f64();
        self.since = self.now;
        let before = self.views.len();
        for (index, set) in sets.iter().enumerate() {
            let terminating = if index < before { self.views[index].terminating } else { 0 };
            let view = view(set, terminating);
            if index < before { self.views[index] = view } else { self.views.push(view) }
        }
        match what {
            What::Deleted { set, .. } => self.views[set].terminating += 1,
            What::Gone { set, .. } => {
                self.views[set].terminating -= 1;
                self.last_gone = Some(self.now);
            }
            What::OverQuota { .. } => self.over_quota = true,
            What::Killed { .. } => self.killed = true,
            What::DeadlineExceeded { .. } => self.deadline = self.deadline.or(Some(self.now)),
            What::Complete { deployment } => self.done[deployment] = Some((self.now, self.area)),
            _ => {}
        }
        self.measure();
        self.steps.push(Step { at: self.now - self.begin, what, sets: self.views.clone() });
    }
}

fn view(set: &Worker, terminating: i32) -> View {
    View {
        deployment: set.deployment,
        template: set.set.template,
        size: set.set.size,
        pods: set.actual.replicas,
        ready: set.actual.ready,
        available: set.set.status.available,
        terminating,
    }
}

impl World<'_> {
    pub(super) fn note(&mut self, what: What) {
        self.record.step(what, &self.sets);
    }

    pub(super) fn outcome(self) -> Outcome {
        let waiting: Vec<_> = self.waiting.iter().enumerate().filter_map(|(index, (_, why))| Some((index, (*why)?))).collect();
        let missing = self.sets.iter().any(|set| set.actual.replicas < set.set.size);
        let done = self.deployments.iter().all(|worker| worker.progress.is_done(&worker.spec));
        let record = self.record;
        let over_quota = record.over_quota && missing;
        let end = match () {
            () if done => End::Complete,
            () if self.deployments.iter().any(|worker| worker.spec.paused) => End::Paused,
            () if !waiting.is_empty() || over_quota => End::Blocked,
            () if record.deadline.is_some() => End::Deadline,
            () => End::Stuck,
        };
        let last = record.done.iter().flatten().max_by_key(|(at, _)| *at).copied().filter(|_| done);
        let (until, area) = last.unwrap_or((record.since, record.area));
        let seconds = (until - record.begin).as_secs_f64();
        let available = record.views.iter().map(|view| view.available).sum::<i32>();
        Outcome {
            end,
            duration: last.map(|(at, _)| at - record.begin),
            deadline: record.deadline.map(|at| at - record.begin),
            last_gone: record.last_gone.map(|at| at - record.begin),
            min_available: record.min_available,
            mean_available: if seconds > 0.0 { area / seconds } else { f64::from(available) },
            min_ready: record.min_ready,
            max_pods: record.max_pods,
            max_pods_with_terminating: record.max_pods_with_terminating,
            max_gpus: record.max_gpus,
            waiting,
            over_quota,
            killed: record.killed,
            steps: record.steps,
        }
    }
}
