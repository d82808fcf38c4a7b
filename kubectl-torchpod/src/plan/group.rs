//! Steps put together, so that a big rollout is told in as few lines as a small one.

use std::time::Duration;

use super::Plan;
use crate::rollout::NoRoom;
use crate::rollout::simulation::{Act, Step, View, What};

pub(super) struct Group<'a> {
    pub(super) at: Duration,
    pub(super) steps: Vec<&'a Step>,
}

/// Windows that are tried, in milliseconds: the first one that leaves few enough groups.
const WINDOWS: [u64; 12] = [0, 50, 250, 1_000, 5_000, 15_000, 60_000, 120_000, 300_000, 900_000, 3_600_000, 14_400_000];

/// At most so many groups of steps that follow each other closely.
pub(super) fn groups(steps: &[Step], finest: Duration, most: usize) -> Vec<Group<'_>> {
    let told: Vec<&Step> = steps.iter().filter(|step| !matches!(step.what, What::Reported { .. })).collect();
    let windows = WINDOWS.iter().map(|window| Duration::from_millis(*window)).filter(|window| *window >= finest);
    let mut all = Vec::new();
    for window in windows {
        all = grouped(&told, window);
        if all.len() <= most {
            break;
        }
    }
    all
}

fn grouped<'a>(steps: &[&'a Step], window: Duration) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for step in steps {
        match groups.last_mut() {
            Some(group) if !window.is_zero() && step.at < group.at + window => group.steps.push(step),
            _ => groups.push(Group { at: step.at, steps: vec![step] }),
        }
    }
    groups
}

impl Group<'_> {
    /// What there is after it.
    pub(super) fn after(&self) -> &[View] {
        self.steps.last().map_or(&[], |step| step.sets.as_slice())
    }

    /// What happened, in words.
    pub(super) fn words(&self, plan: &Plan) -> Vec<String> {
        let mut words = Vec::new();
        let mut add = |text: String| {
            if !words.contains(&text) {
                words.push(text);
            }
        };
        for step in &self.steps {
            match step.what {
                What::Act { deployment, act } => add(deed(plan, deployment, act)),
                What::Waits { why, .. } => add(waits(why).to_owned()),
                What::OverQuota { set, pods } => add(format!("the quota refuses {pods} of {}", plan.set(set))),
                What::Killed { .. } => add("a startup probe kills its container".to_owned()),
                What::Refused { refused, .. } => add(format!("an eviction is refused: {refused}")),
                _ => {}
            }
        }
        for set in 0..self.after().len() {
            self.of_set(set, &plan.set(set)).into_iter().for_each(&mut add);
        }
        for step in &self.steps {
            match step.what {
                What::Complete { deployment } if plan.deployments.len() > 1 => {
                    add(format!("{} is complete", plan.deployments[deployment].name));
                }
                What::Complete { .. } => add("complete".to_owned()),
                What::DeadlineExceeded { .. } => add("progressDeadlineSeconds have passed".to_owned()),
                _ => {}
            }
        }
        words
    }

    fn of_set(&self, set: usize, name: &str) -> Vec<String> {
        let count = |is: fn(What) -> Option<usize>| self.steps.iter().filter(|step| is(step.what) == Some(set)).count();
        let sizes: Vec<(i32, i32)> = self.steps.iter().filter_map(|step| match step.what {
            What::Sized { set: own, from, to } if own == set => Some((from, to)),
            _ => None,
        }).collect();
        let mut words = Vec::new();
        let created = count(|what| if let What::Created { set, .. } = what { Some(set) } else { None });
        let ready = count(|what| if let What::Ready { set, .. } = what { Some(set) } else { None });
        let deleted = count(|what| if let What::Deleted { set, .. } = what { Some(set) } else { None });
        let gone = count(|what| if let What::Gone { set, .. } = what { Some(set) } else { None });
        if ready > 0 {
            words.push(format!("{ready} of {name} ready"));
        }
        match (sizes.first(), sizes.last()) {
            (Some((from, _)), Some((_, to))) if from != to => words.push(format!("{name} {from} → {to}")),
            _ => {
                if created > 0 {
                    words.push(format!("{created} of {name} created"));
                }
                if deleted > 0 {
                    words.push(format!("{deleted} of {name} told to end"));
                }
            }
        }
        if gone > 0 {
            words.push(format!("{gone} of {name} gone"));
        }
        words
    }
}

fn deed(plan: &Plan, deployment: usize, act: Act) -> String {
    let name = &plan.deployments[deployment].name;
    match act {
        Act::Update(template) => format!("{} is applied", plan.version(deployment, template)),
        Act::Undo => format!("{name} is undone"),
        Act::Pause => format!("{name} is paused"),
        Act::Resume => format!("{name} is resumed"),
        Act::Scale(replicas) => format!("{name} is scaled to {replicas}"),
        Act::Drain(node) => format!("node {node} is drained"),
    }
}

pub(super) fn waits(why: NoRoom) -> &'static str {
    match why {
        NoRoom::Gpu => "pods wait for a GPU",
        NoRoom::Apart => "pods wait for a node without one of theirs",
        NoRoom::Pods => "pods wait for a node",
    }
}
