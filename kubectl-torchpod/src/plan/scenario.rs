//! From a manifest and the command line to a scenario.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PodAffinityTerm, ResourceQuota, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::asked::{Asked, Deed, NewVersion, Step};
use super::track::{Track, choose};
use super::{NoPlan, Told};
use crate::cluster::{Cluster, Container, Probe, ProbeKind, Workload, matches};
use crate::quantity::Quantity;
use crate::rollout::simulation::{Act, Phase, Planned, Scenario, Start, Workload as Played};
use crate::rollout::{Apart, Budget, Load, Needs, Nodes, Owner, Probe as Ticks, Probes, Spec, Strategy, Template};
use crate::server::Server;

const GPU: &str = "nvidia.com/gpu";
/// Where nobody says how long a start takes.
const LOAD: Duration = Duration::from_secs(10);
/// More than anybody asks for.
const PLENTY: u32 = 1 << 20;

pub(super) struct Scene {
    pub(super) scenario: Scenario,
    pub(super) deployments: Vec<Told>,
    pub(super) shared: Vec<usize>,
    pub(super) notes: Vec<String>,
}

pub(super) fn build(cluster: &Cluster<'_>, asked: &Asked) -> Result<Scene, NoPlan> {
    let tracks = choose(cluster, asked.deployment.as_deref())?;
    let (hard, names) = quota(cluster, tracks[0].workload);
    let mut assumed = Vec::new();
    if asked.load_time.is_none() {
        assumed.push("a start is taken to last 10 s: --load-time or --report says it better".to_owned());
    }
    let scaled = tracks.iter().any(|track| track.workload.scaler.is_some());
    if scaled && asked.replicas.is_none() {
        assumed.push("an autoscaler decides how many pods there are: --replicas says how many".to_owned());
    }
    let mut workloads: Vec<Played> = tracks.iter().map(|track| play(cluster, track, asked, &names)).collect();
    if let Some(replicas) = asked.replicas {
        // In a pair it is the old one that has many.
        workloads[0].spec.replicas = replicas;
    }
    let actions = actions(&tracks, &mut workloads, asked)?;
    let (nodes, gpus) = room(&workloads, asked);
    let scenario = Scenario { workloads, nodes, gpus, quota: hard, actions, phase: Phase::default() };
    for action in &scenario.actions {
        if let Act::Drain(node) = action.act
            && node >= nodes
        {
            return Err(NoPlan::NoNode(format!("drain:{node}"), nodes));
        }
    }
    fits(&scenario)?;
    let deployments = tracks.iter().zip(&scenario.workloads).map(|(track, played)| told(track, played)).collect();
    let shared = tracks.iter().enumerate().filter(|(_, track)| track.served).map(|(index, _)| index).collect();
    Ok(Scene { scenario, deployments, shared, notes: assumed })
}

fn told(track: &Track<'_>, played: &Played) -> Told {
    let spec = &played.spec;
    let strategy = match spec.strategy {
        Strategy::Recreate => "Recreate".to_owned(),
        Strategy::Rolling { .. } => format!("maxSurge {}, maxUnavailable {}", spec.surge(), spec.unavailable()),
    };
    let name = |number: usize| match &track.name {
        Some(name) if number == 0 => name.clone(),
        Some(name) => format!("{name} v{}", number + 1),
        None => format!("v{}", number + 1),
    };
    let versions = (0..played.versions.len()).map(name).collect();
    Told { name: track.workload.object.name.clone(), versions, strategy, pods: spec.replicas }
}

fn play(cluster: &Cluster<'_>, track: &Track<'_>, asked: &Asked, quota: &[String]) -> Played {
    let workload = track.workload;
    let load = asked.load_time.unwrap_or(LOAD);
    let new = match asked.new_version {
        NewVersion::Ok => Load::Serves(load),
        NewVersion::NeverReady => Load::NeverReady(load),
        NewVersion::Crash => Load::Crashes,
    };
    let mut spec = Spec::of(track.deployment);
    spec.template = Template(0);
    let containers: Vec<_> = workload.containers().collect();
    let serving = containers.iter().position(|container| Server::of(container).is_some()).unwrap_or(0);
    let main = containers.get(serving);
    let probes = main.map_or_else(Probes::default, |main| Probes {
        startup: main.probe(ProbeKind::Startup).map(|probe| ticks(&probe)),
        readiness: main.probe(ProbeKind::Readiness).map(|probe| ticks(&probe)),
    });
    Played {
        spec,
        start: if track.is_new { Start::Absent } else { Start::Running },
        versions: if track.is_new { vec![new] } else { vec![Load::Serves(load), new] },
        probes,
        volumes: mounts(cluster, workload),
        stop: main.map_or(Duration::ZERO, |main| stop(main, asked)),
        needs: Needs { gpus: gpus(workload), apart: apart(workload) },
        asks: quota.iter().map(|key| ask(workload, key).billionths()).collect(),
        budget: budget(cluster, workload),
    }
}

fn ticks(probe: &Probe<'_>) -> Ticks {
    let number = |value: i64| u32::try_from(value).unwrap_or(0);
    let seconds = |value: i64| Duration::from_secs(u64::from(number(value)));
    Ticks {
        delay: seconds(probe.initial_delay()),
        period: seconds(probe.period()),
        successes: probe.spec.success_threshold.and_then(|value| u32::try_from(value).ok()).unwrap_or(1).max(1),
        failures: number(probe.failures()),
    }
}

/// From the deletion's notice to the end: preStop, then the drain, and no longer than the grace.
fn stop(main: &Container<'_>, asked: &Asked) -> Duration {
    let sleep = main.pre_stop().and_then(|handler| handler.sleep.as_ref()).map_or(0, |sleep| sleep.seconds);
    let sleep = Duration::from_secs(u64::try_from(sleep).unwrap_or(0));
    // Without requests in flight, torchpod leaves after its drain delay.
    let own = Server::of(main).and_then(|server| server.drain_delay);
    let grace = main.workload.pod.termination_grace_period_seconds.unwrap_or(30);
    let grace = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
    (sleep + asked.drain_time.or(own).unwrap_or_default()).min(grace)
}

/// Whether a pod mounts anything, the token of its account included.
fn mounts(cluster: &Cluster<'_>, workload: &Workload<'_>) -> bool {
    let pod = workload.pod;
    let account = pod.service_account_name.as_deref().unwrap_or("default");
    let namespace = workload.object.namespace.as_deref();
    let mut accounts = cluster.all::<ServiceAccount>();
    let account = accounts.find(|(object, _)| object.name == account && object.namespace.as_deref() == namespace);
    let token = pod
        .automount_service_account_token
        .or(account.and_then(|(_, account)| account.automount_service_account_token));
    token.unwrap_or(true) || pod.volumes.as_ref().is_some_and(|volumes| !volumes.is_empty())
}

fn gpus(workload: &Workload<'_>) -> u32 {
    workload.containers().filter_map(|container| container.limit(GPU)?.parse::<u32>().ok()).sum()
}

fn apart(workload: &Workload<'_>) -> Apart {
    let anti = workload.pod.affinity.as_ref().and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let required = anti.and_then(|anti| anti.required_during_scheduling_ignored_during_execution.as_ref());
    let own = |term: &&PodAffinityTerm| {
        let selected = term.label_selector.as_ref().is_some_and(|selector| matches(selector, workload.labels));
        selected && term.topology_key == "kubernetes.io/hostname"
    };
    match required.into_iter().flatten().find(own) {
        None => Apart::No,
        Some(term) if term.match_label_keys.iter().flatten().any(|key| key == "pod-template-hash") => Apart::Revision,
        Some(_) => Apart::All,
    }
}

fn budget(cluster: &Cluster<'_>, workload: &Workload<'_>) -> Option<Budget> {
    let namespace = workload.object.namespace.as_deref();
    let own = cluster.all::<PodDisruptionBudget>().filter(|(object, _)| object.namespace.as_deref() == namespace);
    let mut specs = own.filter_map(|(_, budget)| budget.spec.as_ref());
    let own = specs.find(|spec| spec.selector.as_ref().is_some_and(|selector| matches(selector, workload.labels)))?;
    Budget::of(own)
}

/// What the namespace may use, and under which keys.
fn quota(cluster: &Cluster<'_>, workload: &Workload<'_>) -> (Vec<i128>, Vec<String>) {
    let namespace = workload.object.namespace.as_deref();
    let all = cluster.all::<ResourceQuota>();
    // A quota beside objects that name no namespace is meant for them.
    let own = all.filter(|(object, _)| namespace.is_none() || object.namespace.as_deref() == namespace);
    let hard = own.filter_map(|(_, quota)| quota.spec.as_ref()?.hard.as_ref()).flatten();
    hard.filter_map(|(key, amount)| Some((Quantity::of(amount)?.billionths(), key.clone()))).unzip()
}

/// What a pod takes of a quota's key.
fn ask(workload: &Workload<'_>, key: &str) -> Quantity {
    let containers = workload.containers();
    let amounts: Vec<Option<&str>> = match key.split_once('.') {
        _ if key == "pods" || key == "count/pods" => return Quantity::parse("1").unwrap_or_default(),
        Some(("limits", resource)) => containers.map(|container| container.limit(resource)).collect(),
        Some(("requests", name)) => {
            containers.map(|container| container.request(name).or(container.limit(name))).collect()
        }
        _ if key == "cpu" || key == "memory" => containers.map(|one| one.request(key).or(one.limit(key))).collect(),
        _ => Vec::new(),
    };
    let amounts = amounts.into_iter().flatten().filter_map(Quantity::parse);
    amounts.fold(Quantity::default(), Quantity::plus)
}

/// What is asked to happen: the new version at the beginning, unless it is a Deployment of its own, and then the steps.
fn actions(tracks: &[Track<'_>], workloads: &mut [Played], asked: &Asked) -> Result<Vec<Planned>, NoPlan> {
    let mut actions = Vec::new();
    if let [only] = tracks
        && !only.is_new
    {
        actions.push(Planned { at: Duration::ZERO, workload: 0, act: Act::Update(1) });
    }
    let mut steps: Vec<&Step> = asked.steps.iter().collect();
    steps.sort_by_key(|step| step.at);
    for step in steps {
        let workload = whose(tracks, step)?;
        let act = match step.deed {
            Deed::Update => {
                let versions = &mut workloads[workload].versions;
                versions.push(Load::Serves(asked.load_time.unwrap_or(LOAD)));
                Act::Update(u32::try_from(versions.len() - 1).unwrap_or(0))
            }
            Deed::Undo => Act::Undo,
            Deed::Pause => Act::Pause,
            Deed::Resume => Act::Resume,
            Deed::Scale(replicas) => Act::Scale(replicas),
            Deed::Drain(node) => Act::Drain(node),
        };
        actions.push(Planned { at: step.at, workload, act });
    }
    Ok(actions)
}

fn whose(tracks: &[Track<'_>], step: &Step) -> Result<usize, NoPlan> {
    let names = || tracks.iter().map(|track| track.workload.object.name.as_str());
    match &step.deployment {
        Some(name) => names()
            .position(|known| known == name)
            .ok_or_else(|| NoPlan::NoSuch(name.clone(), names().collect::<Vec<_>>().join(", "))),
        None if tracks.len() == 1 || matches!(step.deed, Deed::Drain(_)) => Ok(0),
        None => Err(NoPlan::Whose(step.text.clone(), names().next().unwrap_or_default().to_owned())),
    }
}

/// Nodes, and GPUs on each. What is not said is never short, but for this: GPUs without nodes mean just the nodes that the
/// pods of the beginning fill.
fn room(workloads: &[Played], asked: &Asked) -> (usize, u32) {
    let sum = |part: &dyn Fn(&Played) -> i64| usize::try_from(workloads.iter().map(part).sum::<i64>()).unwrap_or(0);
    let most = sum(&|one| 2 * i64::from(one.spec.most()));
    let alone = workloads.iter().any(|one| one.needs.apart != Apart::No);
    let plenty = if alone { most } else { most.div_ceil(110) };
    let filled = asked.gpus_per_node.filter(|gpus| *gpus > 0).map(|gpus| {
        let running = |one: &Played| if one.start == Start::Running { i64::from(one.spec.replicas) } else { 0 };
        sum(&|one| running(one) * i64::from(one.needs.gpus)).div_ceil(usize::try_from(gpus).unwrap_or(1))
    });
    let needy = workloads.iter().any(|one| one.needs.gpus > 0);
    let nodes = asked.nodes.or(filled.filter(|_| needy)).unwrap_or(plenty).max(1);
    (nodes, asked.gpus_per_node.unwrap_or(PLENTY))
}

/// Whether what is there already has room.
fn fits(scenario: &Scenario) -> Result<(), NoPlan> {
    let mut nodes = Nodes::new(scenario.nodes, scenario.gpus);
    let (mut held, mut pods) = (0, 0);
    for (index, workload) in scenario.workloads.iter().enumerate().filter(|(_, one)| one.start == Start::Running) {
        for _ in 0..workload.spec.replicas {
            pods += 1;
            held += usize::from(nodes.place(Owner { deployment: index, revision: index }, workload.needs).is_ok());
        }
    }
    if held == pods { Ok(()) } else { Err(NoPlan::TooSmall { nodes: scenario.nodes, gpus: scenario.gpus, held, pods }) }
}
