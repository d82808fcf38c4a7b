//! The validated configuration. Nothing below this module sees a raw flag.

pub mod file;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory as _;
use tracing_subscriber::EnvFilter;

use crate::chaos::Chaos;
use crate::cli::{Cli, EngineArgs, OnFatal, ServeArgs};
use crate::dependency::Dependency;
use crate::engine::{DeviceChoice, loader};
use crate::lifecycle::{Dependencies, history};
use crate::model::spec::{self, Port};
use crate::telemetry::LogFormat;

/// What `serve` was asked to do.
#[derive(Debug)]
pub struct Config {
    pub models: PathBuf,
    pub listen: SocketAddr,
    /// `None`: gRPC is switched off.
    pub grpc_listen: Option<SocketAddr>,
    pub probe_listen: Option<SocketAddr>,
    pub stall_limit: Duration,
    pub on_fatal: OnFatal,
    pub dependencies: Vec<Dependency>,
    pub device: DeviceChoice,
    pub engine: loader::Options,
    pub default_model: Option<String>,
    pub inputs: Vec<Port>,
    pub drain_delay: Duration,
    pub drain_timeout: Duration,
    pub ready_while_draining: bool,
    pub request_timeout: Duration,
    pub max_queue: usize,
    pub max_connections: usize,
    pub idle_timeout: Duration,
    pub label: Option<String>,
    pub log_format: LogFormat,
    pub log_filter: EnvFilter,
    pub termination_log: PathBuf,
    pub chaos: Chaos,
    /// What will work, but not as somebody may think.
    pub warnings: Vec<String>,
}

/// What the process may take from the end of a drain to its own.
const EXIT_MARGIN: Duration = Duration::from_secs(5);

/// No flag means more: it would overflow a deadline long before it was over.
const MAX_TIME: Duration = Duration::from_hours(24);

/// Stands in for an address that is wrong, until everything has been read.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Everything that is wrong with the flags and variables, at once.
#[derive(Debug, Default, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Error(pub Vec<String>);

impl Error {
    /// Notes what is wrong with `flag`.
    fn note(&mut self, flag: &str, wrong: impl Display) {
        self.0.push(format!("{flag} {wrong}"));
    }

    /// What `flag` was read as; where that is an error, notes it and goes on with `stand_in`.
    fn or<T>(&mut self, flag: &str, read: Result<T, String>, stand_in: T) -> T {
        read.unwrap_or_else(|wrong| {
            self.note(flag, wrong);
            stand_in
        })
    }
}

impl Config {
    pub fn new(args: ServeArgs, engine: &EngineArgs) -> Result<Self, Error> {
        let mut wrong = Error::default();
        let device = wrong.or("--device", args.device.parse(), DeviceChoice::Auto);
        let chaos = wrong.or("--chaos", args.chaos.as_deref().unwrap_or_default().parse(), Chaos::default());
        let drain_delay = wrong.or("--drain-delay", duration(&args.drain_delay), MAX_TIME);
        let drain_timeout = wrong.or("--drain-timeout", duration(&args.drain_timeout), MAX_TIME);
        let grpc_listen = Some(args.grpc_listen.as_str()).filter(|text| !["", "off"].contains(text));
        let config = Self {
            models: args.models,
            listen: wrong.or("--listen", resolve(&args.listen), NOWHERE),
            grpc_listen: grpc_listen.map(|text| wrong.or("--grpc-listen", resolve(text), NOWHERE)),
            probe_listen: args.probe_listen.map(|text| wrong.or("--probe-listen", resolve(&text), NOWHERE)),
            stall_limit: wrong.or("--stall-limit", some_time(&args.stall_limit), MAX_TIME),
            on_fatal: args.on_fatal,
            dependencies: dependencies(&args.dependencies, &chaos, &mut wrong),
            device,
            engine: engine_options(engine, device != DeviceChoice::Cpu),
            default_model: args.default_model,
            inputs: inputs(&args.inputs, &mut wrong),
            drain_delay,
            drain_timeout,
            ready_while_draining: args.ready_while_draining,
            request_timeout: wrong.or("--request-timeout", some_time(&args.request_timeout), MAX_TIME),
            max_queue: wrong.or("--max-queue", at_least_one(args.max_queue), 1),
            max_connections: wrong.or("--max-connections", at_least_one(args.max_connections), 1),
            idle_timeout: wrong.or("--idle-timeout", some_time(&args.idle_timeout), MAX_TIME),
            label: args.label,
            log_format: args.log_format,
            log_filter: wrong.or("--log-filter", log_filter(&args.log_filter), EnvFilter::default()),
            termination_log: args.termination_log,
            chaos,
            warnings: short_grace(args.termination_grace_seconds, drain_delay + drain_timeout).into_iter().collect(),
        };
        if wrong.0.is_empty() { Ok(config) } else { Err(wrong) }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).ok().filter(|time| *time <= MAX_TIME);
    time.ok_or_else(|| format!("{text}: expected a duration such as 5s or 200ms, at most 24h"))
}

/// A duration that is not nothing.
fn some_time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err(format!("{text}: expected more than 0s")),
        time => Ok(time),
    }
}

fn at_least_one(number: usize) -> Result<usize, String> {
    if number == 0 { Err("0: expected at least 1".to_owned()) } else { Ok(number) }
}

fn resolve(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| format!("{text}: expected an address and a port, such as 0.0.0.0:8080"))
}

fn log_filter(text: &str) -> Result<EnvFilter, String> {
    let filter = EnvFilter::builder().parse(text);
    filter.map_err(|error| format!("{text}: {error}; write info or info,torchpod::http=debug"))
}

fn inputs(texts: &[String], wrong: &mut Error) -> Vec<Port> {
    let read = texts.iter().map(|text| spec::parse_input(text));
    read.filter_map(|port| port.map_err(|error| wrong.note("--input", error)).ok()).collect()
}

/// Where to look for the engine; without `cuda`, it leaves CUDA alone.
pub fn engine_options(engine: &EngineArgs, cuda: bool) -> loader::Options {
    loader::Options { engine_dir: engine.engine_dir.clone(), libtorch: engine.libtorch.clone(), cuda }
}

/// The dependencies that are described rightly and can be told apart.
fn dependencies(urls: &[String], chaos: &Chaos, wrong: &mut Error) -> Vec<Dependency> {
    let mut known: Vec<Dependency> = Vec::new();
    for url in urls.iter().flat_map(|urls| urls.split_whitespace()) {
        match url.parse::<Dependency>() {
            Ok(Dependency { name, .. }) if known.iter().any(|other| other.name == name) => {
                wrong.note("--dependency", format!("{name} stands there twice: tell them apart with #name=TEXT"));
            }
            Ok(Dependency { name, .. }) if history::is_taken(&name) => {
                wrong.note(
                    "--dependency",
                    format!("name={name}: expected another name, since the server has its own {name}"),
                );
            }
            Ok(dependency) => known.push(dependency),
            Err(error) => wrong.note("--dependency", error),
        }
    }
    if known.len() > Dependencies::MOST {
        wrong.note("--dependency", format!("{} of them: expected at most {}", known.len(), Dependencies::MOST));
    }
    for word in &chaos.dependencies_down {
        let mut meant = known.iter_mut().filter(|dependency| dependency.answers_to(word)).peekable();
        if meant.peek().is_none() {
            wrong.note("--chaos", format!("dependency-down={word}: there is no --dependency of this name or scheme"));
        }
        meant.for_each(Dependency::rehearse_down);
    }
    known
}

/// A warning where the kubelet would kill a drain that is within its own limits.
fn short_grace(grace_seconds: Option<u64>, drain: Duration) -> Option<String> {
    let grace = Duration::from_secs(grace_seconds?);
    let needed = drain + EXIT_MARGIN;
    (grace < needed).then(|| {
        format!(
            "terminationGracePeriodSeconds is {}, but --drain-delay + --drain-timeout + {EXIT_MARGIN:?} are {needed:?}: \
             the kubelet may kill this server in the middle of its drain",
            grace.as_secs()
        )
    })
}

/// A warning for each TORCHPOD_* variable that means nothing: most likely it is misspelt.
pub fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    let command = Cli::command();
    let serve = command.get_subcommands().flat_map(clap::Command::get_arguments);
    let known: BTreeSet<String> = command
        .get_arguments()
        .chain(serve)
        .filter_map(|argument| argument.get_env())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names
        .filter(|name| name.starts_with("TORCHPOD_") && !known.contains(name))
        // A Service named torchpod makes Kubernetes inject the first two; the third is the set-up script's.
        .filter(|name| !name.starts_with("TORCHPOD_PORT") && !name.starts_with("TORCHPOD_SERVICE_"))
        .filter(|name| name != "TORCHPOD_CACHE")
        .map(|name| format!("{name} is not a variable that torchpod knows; `torchpod serve --help` lists them"))
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Command;

    fn config(args: &[&str]) -> Result<Config, Error> {
        let cli = Cli::try_parse_from(["torchpod", "serve"].iter().chain(args)).unwrap();
        let Some(Command::Serve(serve)) = cli.command else { panic!("not serve") };
        Config::new(*serve, &cli.engine)
    }

    #[test]
    fn the_defaults_are_those_of_the_help() {
        let config = config(&[]).unwrap();
        assert_eq!(config.drain_delay, Duration::from_secs(5));
        assert_eq!(config.drain_timeout, Duration::from_secs(30));
        assert_eq!((config.listen.port(), config.max_queue), (8080, 1024));
        assert_eq!(config.grpc_listen.map(|address| address.port()), Some(9090));
        assert_eq!((config.max_connections, config.idle_timeout), (10_000, Duration::from_secs(75)));
        assert!(config.engine.cuda);
    }

    #[test]
    fn an_empty_address_or_off_opens_no_port_for_grpc() {
        for text in ["", "off"] {
            assert_eq!(config(&["--grpc-listen", text]).unwrap().grpc_listen, None);
        }
        assert!(config(&["--grpc-listen", "nowhere"]).unwrap_err().to_string().starts_with("--grpc-listen nowhere: "));
    }

    #[test]
    fn every_wrong_flag_is_named_with_its_value_at_once() {
        let error = config(&[
            "--listen",
            "nowhere",
            "--device",
            "tpu",
            "--drain-delay",
            "soon",
            "--max-queue",
            "0",
            "--max-connections",
            "0",
            "--idle-timeout",
            "0s",
            "--chaos",
            "fire=1s",
            "--input",
            "x",
        ])
        .unwrap_err()
        .to_string();
        for part in ["--listen nowhere", "--device tpu", "--drain-delay soon", "--max-queue 0", "fire", "--input"]
            .into_iter()
            .chain(["--max-connections 0", "--idle-timeout 0s"])
        {
            assert!(error.contains(part), "{part} in {error}");
        }
    }

    #[test]
    fn a_grace_period_that_is_too_short_for_the_drain_is_warned_of() {
        let warnings = |grace: &str| config(&["--termination-grace-seconds", grace]).unwrap().warnings;
        // 5 s of delay, 30 s of timeout, 5 s to spare.
        assert_eq!(warnings("40").len(), 0);
        assert!(warnings("39")[0].contains("39") && warnings("39")[0].contains("40s"), "{:?}", warnings("39"));
    }

    #[test]
    fn dependencies_must_be_told_apart_and_rehearsals_must_mean_one() {
        let url = "tcp://127.0.0.1:9";
        assert_eq!(config(&["--dependency", &format!("{url} {url}#name=other")]).unwrap().dependencies.len(), 2);
        let twice = config(&["--dependency", url, "--dependency", url]).unwrap_err().to_string();
        assert!(twice.contains("twice") && twice.contains("name="), "{twice}");
        let taken = config(&["--dependency", &format!("{url}#name=hung")]).unwrap_err().to_string();
        assert!(taken.contains("--dependency name=hung: expected another name"), "{taken}");
        let nobody = config(&["--dependency", url, "--chaos", "dependency-down=redis"]).unwrap_err().to_string();
        assert!(nobody.contains("dependency-down=redis"), "{nobody}");
    }

    #[test]
    fn a_device_is_auto_cpu_or_a_numbered_gpu() {
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert!(!config(&["--device", "cpu"]).unwrap().engine.cuda);
    }

    #[test]
    fn unknown_variables_are_found_and_kubernetes_own_are_left_alone() {
        let names = ["TORCHPOD_LISTEN", "TORCHPOD_LISTN", "TORCHPOD_PORT_8080_TCP", "TORCHPOD_SERVICE_HOST", "PATH"];
        let unknown = unknown_variables(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(unknown.len(), 1, "{unknown:?}");
        assert!(unknown[0].starts_with("TORCHPOD_LISTN "));
    }
}
