//! `kubectl torchpod plan`.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::measured::Measured;
use super::print;
use crate::cluster::Cluster;
use crate::manifest::{self, Manifests, Problem};
use crate::plan::{self, Asked, NewVersion, Plan, Step};

/// Predict a rollout: how long it takes, how many pods and GPUs it needs, how few serve, and what stops it
///
/// The Deployment in FILE is taken to run in its old version, fully available, and a new version is applied. Of two
/// Deployments behind one Service (stable and canary, blue and green), the first one runs, and the second one is made.
/// The controllers' decisions are those of Kubernetes 1.36; their latencies, and those of the kubelet, were measured
/// there. Up to a second a wave of pods is chance, images are taken to be on their nodes already, and models to load in
/// 10 s where nothing says how long they take.
///
/// Exit codes: 0 it completes in time, 1 it does not, 2 a flag is wrong, a file cannot be read, or the plan
/// cannot be written.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Files, folders with all below them, or - for standard input
    #[arg(required = true, value_name = "FILE|DIR|-")]
    paths: Vec<PathBuf>,

    /// The Deployment that is rolled out, where there are several
    #[arg(long, value_name = "NAME")]
    deployment: Option<String>,

    #[command(flatten)]
    measured: Measured,

    /// How long a container takes to end after SIGTERM, such as 8s; without it, torchpod's own drain delay
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    drain_time: Option<Duration>,

    /// How the new version behaves
    #[arg(long, value_enum, default_value = "ok")]
    new_version: NewVersion,

    /// How many pods, in place of what is written
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=100_000))]
    replicas: Option<i32>,

    /// How many nodes there are; without it, enough
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    nodes: Option<u32>,

    /// How many GPUs each node has; without it, enough. Without --nodes, there are as many nodes as the old pods fill
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(0..=1_000))]
    gpus_per_node: Option<u32>,

    /// Something that is done meanwhile: TIME=[DEPLOYMENT/]ACTION, of update, undo, pause, resume, scale:N and drain:NODE
    #[arg(long, value_name = "STEP")]
    at: Vec<Step>,

    /// Draw it, as SVG
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,

    /// How it is told
    #[arg(short, long, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

impl PlanArgs {
    pub(super) fn run(self) -> ExitCode {
        match self.plan() {
            Ok(code) => code,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(2)
            }
        }
    }

    fn plan(self) -> Result<ExitCode, String> {
        let load_time = self.measured.load_time()?;
        let sources = manifest::read(&self.paths).map_err(|error| error.to_string())?;
        let manifests = Manifests::parse(sources);
        if let Some((spot, why)) = broken(&manifests) {
            return Err(format!("{}, line {}: {why}", manifests.sources[spot.file].name, spot.span.start.line));
        }
        let asked = Asked {
            deployment: self.deployment,
            load_time,
            drain_time: self.drain_time,
            replicas: self.replicas,
            nodes: self.nodes.and_then(|nodes| usize::try_from(nodes).ok()),
            gpus_per_node: self.gpus_per_node,
            new_version: self.new_version,
            steps: self.at,
        };
        // All that was named is one cluster: whoever plans a rollout names the files that belong together.
        let cluster = Cluster::new(manifests.objects.iter().collect(), manifests.problems.iter().collect());
        let plan = Plan::new(&cluster, &asked).map_err(|error| error.to_string())?;
        if let Some(path) = &self.chart {
            fs::write(path, plan::chart(&plan)).map_err(|error| format!("--chart {}: {error}", path.display()))?;
        }
        let told = match self.output {
            Output::Text => plan::text(&plan),
            Output::Json => plan::json(&plan),
        };
        print(&told)?;
        Ok(ExitCode::from(u8::from(!plan.is_good())))
    }
}

/// A file that cannot be read to its end: what is missing might be what matters.
fn broken(manifests: &Manifests) -> Option<(&manifest::Spot, &str)> {
    manifests.problems.iter().find_map(|(spot, problem)| match problem {
        Problem::Broken(why) => Some((spot, why.as_str())),
        _ => None,
    })
}
