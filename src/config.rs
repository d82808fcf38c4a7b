//! The validated configuration. Nothing below this module sees a raw flag.

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory as _;
use tracing_subscriber::EnvFilter;

use crate::chaos::Chaos;
use crate::cli::{Cli, EngineArgs, ServeArgs};
use crate::engine::{DeviceChoice, loader};
use crate::model::spec::{self, Port};
use crate::telemetry::LogFormat;

/// What `serve` was asked to do.
#[derive(Debug)]
pub struct Config {
    pub models: PathBuf,
    pub listen: SocketAddr,
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
    pub chaos: Chaos,
}

/// No flag means more: it would overflow a deadline long before it was over.
const MAX_TIME: Duration = Duration::from_hours(24);

/// Everything that is wrong with the flags and variables, at once.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Error(pub Vec<String>);

impl Config {
    pub fn new(args: ServeArgs, engine: &EngineArgs) -> Result<Self, Error> {
        let mut wrong = Vec::new();
        let mut duration = |flag: &str, text: &str| {
            humantime::parse_duration(text).ok().filter(|time| *time <= MAX_TIME).unwrap_or_else(|| {
                wrong.push(format!("{flag} {text}: expected a duration such as 5s or 200ms, at most 24h"));
                Duration::from_secs(1)
            })
        };
        let drain_delay = duration("--drain-delay", &args.drain_delay);
        let drain_timeout = duration("--drain-timeout", &args.drain_timeout);
        let request_timeout = duration("--request-timeout", &args.request_timeout);
        let idle_timeout = duration("--idle-timeout", &args.idle_timeout);
        let mut or_wrong = |flag: &str, error: String| wrong.push(format!("{flag} {error}"));

        let listen = match resolve(&args.listen) {
            Ok(address) => address,
            Err(error) => {
                or_wrong("--listen", error);
                SocketAddr::from(([0, 0, 0, 0], 0))
            }
        };
        let device = args.device.parse().unwrap_or_else(|error| {
            or_wrong("--device", error);
            DeviceChoice::Auto
        });
        let inputs = args
            .inputs
            .iter()
            .filter_map(|input| spec::parse_input(input).map_err(|error| or_wrong("--input", error)).ok());
        let inputs = inputs.collect();
        let chaos = args.chaos.as_deref().unwrap_or_default().parse().unwrap_or_else(|error| {
            or_wrong("--chaos", error);
            Chaos::default()
        });
        let log_filter = EnvFilter::builder().parse(&args.log_filter).unwrap_or_else(|error| {
            or_wrong("--log-filter", format!("{}: {error}; write info or info,torchpod::http=debug", args.log_filter));
            EnvFilter::new("info")
        });
        if args.max_queue == 0 {
            or_wrong("--max-queue", "0: expected at least 1".to_owned());
        }
        if args.max_connections == 0 {
            or_wrong("--max-connections", "0: expected at least 1".to_owned());
        }
        if idle_timeout.is_zero() {
            or_wrong("--idle-timeout", format!("{}: expected more than 0s", args.idle_timeout));
        }
        if request_timeout.is_zero() {
            or_wrong("--request-timeout", format!("{}: expected more than 0s", args.request_timeout));
        }
        if !wrong.is_empty() {
            return Err(Error(wrong));
        }
        Ok(Self {
            models: args.models,
            listen,
            device,
            engine: engine_options(engine, device != DeviceChoice::Cpu),
            default_model: args.default_model,
            inputs,
            drain_delay,
            drain_timeout,
            ready_while_draining: args.ready_while_draining,
            request_timeout,
            max_queue: args.max_queue,
            max_connections: args.max_connections,
            idle_timeout,
            label: args.label,
            log_format: args.log_format,
            log_filter,
            chaos,
        })
    }
}

/// Where to look for the engine; without `cuda`, it leaves CUDA alone.
pub fn engine_options(engine: &EngineArgs, cuda: bool) -> loader::Options {
    loader::Options { engine_dir: engine.engine_dir.clone(), libtorch: engine.libtorch.clone(), cuda }
}

fn resolve(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| format!("{text}: expected an address and a port, such as 0.0.0.0:8080"))
}

/// TORCHPOD_* variables that mean nothing, each with the nearest that does: most likely misspelt.
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
        assert_eq!((config.max_connections, config.idle_timeout), (10_000, Duration::from_secs(75)));
        assert!(config.engine.cuda);
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
