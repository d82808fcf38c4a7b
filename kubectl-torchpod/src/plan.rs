//! `kubectl torchpod plan`: a rollout of what a manifest describes, played in a made-up cluster, and told in several ways.

mod asked;
mod blocker;
mod chart;
mod group;
mod json;
mod scenario;
mod text;
mod track;
mod traffic;

use thiserror::Error;

pub use asked::{Asked, Deed, NewVersion, Step};
pub use chart::chart;
pub use json::json;
pub use text::text;

use crate::cluster::Cluster;
use crate::rollout::simulation::{End, Outcome, Scenario, run};

/// A rollout that was played, with what is needed to tell of it.
pub struct Plan {
    pub scenario: Scenario,
    pub outcome: Outcome,
    /// By Deployment: its name, and how its versions are called.
    pub deployments: Vec<Told>,
    /// Which Deployments share a Service, where two do or one of them may.
    shared: Vec<usize>,
    /// What was taken for granted, and what to watch out for, as sentences.
    notes: Vec<String>,
}

pub struct Told {
    pub name: String,
    pub versions: Vec<String>,
    /// `maxSurge 2, maxUnavailable 1`, or `Recreate`.
    strategy: String,
    /// What gets it moving again, should it stop.
    pods: i32,
}

/// Why there is nothing to play.
#[derive(Debug, Error)]
pub enum NoPlan {
    #[error("there is no Deployment in it")]
    NoDeployment,
    #[error("there is no Deployment {0}; there are {1}")]
    NoSuch(String, String),
    #[error("there are several Deployments: choose one of {0} with --deployment")]
    Several(String),
    #[error("--at {0} says nothing of which Deployment: put its name and a slash before the action, such as {1}/undo")]
    Whose(String, String),
    #[error("--at {0}: there are {1} nodes, counted from 0")]
    NoNode(String, usize),
    #[error("{nodes} nodes with {gpus} GPUs each hold {held} of the {pods} pods that are there already: give more of them")]
    TooSmall { nodes: usize, gpus: u32, held: usize, pods: usize },
}

impl Plan {
    pub fn new(cluster: &Cluster<'_>, asked: &Asked) -> Result<Plan, NoPlan> {
        let scene = scenario::build(cluster, asked)?;
        let outcome = run(&scene.scenario);
        let mut plan = Plan {
            scenario: scene.scenario,
            outcome,
            deployments: scene.deployments,
            shared: scene.shared,
            notes: scene.notes,
        };
        let blockers = blocker::blockers(&plan);
        plan.notes.extend(blockers);
        Ok(plan)
    }

    pub fn is_good(&self) -> bool {
        self.outcome.end == End::Complete && self.outcome.deadline.is_none()
    }

    /// A word for the end: `complete`, `deadline`, `blocked`, `paused`, `stuck`.
    pub fn end(&self) -> &'static str {
        match self.outcome.end {
            End::Complete if self.outcome.deadline.is_some() => "deadline",
            End::Complete => "complete",
            End::Deadline => "deadline",
            End::Blocked => "blocked",
            End::Paused => "paused",
            End::Stuck => "stuck",
        }
    }

    /// What a version of a Deployment is called.
    fn version(&self, deployment: usize, template: u32) -> &str {
        let versions = &self.deployments[deployment].versions;
        usize::try_from(template).ok().and_then(|index| versions.get(index)).map_or("?", String::as_str)
    }

    /// What a ReplicaSet is called, by its number.
    fn set(&self, set: usize) -> String {
        let last = self.outcome.steps.iter().rev().find_map(|step| step.sets.get(set));
        last.map_or(String::new(), |view| self.version(view.deployment, view.template.0).to_owned())
    }
}
