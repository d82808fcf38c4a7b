//! What the command line asks, validated.

use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;

#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub deployment: Option<String>,
    pub load_time: Option<Duration>,
    pub drain_time: Option<Duration>,
    pub replicas: Option<i32>,
    pub nodes: Option<usize>,
    pub gpus_per_node: Option<u32>,
    pub new_version: NewVersion,
    pub steps: Vec<Step>,
}

/// How the new version behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum NewVersion {
    /// It loads, and serves
    #[default]
    Ok,
    /// It loads, and never gets ready
    NeverReady,
    /// It ends by itself, again and again
    Crash,
}

/// `10s=undo`, or `10s=ml-model/undo` where there are several Deployments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub text: String,
    pub at: Duration,
    pub deployment: Option<String>,
    pub deed: Deed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Update,
    Undo,
    Pause,
    Resume,
    Scale(i32),
    Drain(usize),
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Step, String> {
        let shape = "it looks like 10s=undo, and the actions are update, undo, pause, resume, scale:N and drain:NODE";
        let (at, action) = text.split_once('=').ok_or(shape)?;
        let at = humantime::parse_duration(at.trim()).map_err(|error| format!("{at}: {error}"))?;
        let (deployment, action) = match action.rsplit_once('/') {
            Some((deployment, action)) => (Some(deployment.trim().to_owned()), action),
            None => (None, action),
        };
        let deed = match action.trim().split_once(':') {
            None => match action.trim() {
                "update" => Deed::Update,
                "undo" => Deed::Undo,
                "pause" => Deed::Pause,
                "resume" => Deed::Resume,
                _ => return Err(shape.to_owned()),
            },
            Some(("scale", number)) => match number.parse() {
                Ok(replicas @ 0..) => Deed::Scale(replicas),
                _ => return Err(format!("scale:{number}: a number of pods, such as scale:4")),
            },
            Some(("drain", node)) => {
                Deed::Drain(node.parse().map_err(|_| format!("drain:{node}: the number of a node, such as drain:0"))?)
            }
            Some(_) => return Err(shape.to_owned()),
        };
        Ok(Step { text: text.to_owned(), at, deployment, deed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_names_a_time_an_action_and_perhaps_a_deployment() {
        let step: Step = "1m 5s=stable/scale:6".parse().unwrap();
        assert_eq!((step.at, step.deployment.as_deref(), step.deed), (Duration::from_secs(65), Some("stable"), Deed::Scale(6)));
        assert_eq!("10s=undo".parse::<Step>().unwrap().deed, Deed::Undo);
        for wrong in ["undo", "10s=redo", "soon=undo", "1s=scale:-1", "1s=drain:one", "1s=undo:2"] {
            assert!(wrong.parse::<Step>().is_err(), "{wrong}");
        }
    }
}
