//! The validated configuration. Nothing below this module sees a raw flag.

pub mod file;
mod memory;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory as _;
use secrecy::{ExposeSecret as _, SecretString};
use tracing_subscriber::EnvFilter;

use crate::chaos::Chaos;
use crate::cli::{CheckArgs, Cli, EngineArgs, ModelArgs, ModelControl, OnFatal, ServeArgs};
use crate::dependency::{Dependency, may_hold_password};
use crate::engine::{DeviceChoice, loader};
use crate::lifecycle::{Dependencies, history};
use crate::model::repository::Given;
use crate::model::spec::{self, Port};
use crate::telemetry::trace::settings::Settings;
use crate::telemetry::{LogFormat, log};

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
    pub model_control: ModelControl,
    /// Never shown: its type sees to that.
    pub control_token: Option<SecretString>,
    pub load_timeout: Duration,
    /// What the flags say of models that do not describe themselves.
    pub given: Given,
    pub drain_delay: Duration,
    pub drain_timeout: Duration,
    pub ready_while_draining: bool,
    pub request_timeout: Duration,
    pub max_queue: usize,
    /// Bytes.
    pub request_memory: usize,
    pub io_threads: usize,
    pub max_connections: usize,
    pub idle_timeout: Duration,
    pub label: Option<String>,
    /// Whether browsers get the console.
    pub console: bool,
    pub log_format: LogFormat,
    pub log_filter: EnvFilter,
    /// From where on the log tells of a request; `None`: of none.
    pub slow_request: Option<Duration>,
    /// `None`: no collector of traces is named.
    pub traces: Option<Settings>,
    pub termination_log: PathBuf,
    pub chaos: Chaos,
    /// What will work, but not as somebody may think.
    pub warnings: Vec<String>,
}

/// What the process may take from the end of a drain to its own.
const EXIT_MARGIN: Duration = Duration::from_secs(5);

/// No flag means more: it would overflow a deadline long before it was over.
const MAX_TIME: Duration = Duration::from_hours(24);

/// What is said of a flag that has the value of another one.
const MISPLACED: &str = "is set to something else, not shown since it may hold a password";

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

    /// What `text` was read as for `flag`; where that is an error, notes it and goes on with `stand_in`. A variable that
    /// got the value of another one may hold a password, which an error would show.
    fn or<T>(&mut self, flag: &str, text: &str, read: impl FnOnce(&str) -> Result<T, String>, stand_in: T) -> T {
        read(text).unwrap_or_else(|wrong| {
            if may_hold_password(text) {
                self.note(flag, MISPLACED);
            } else {
                self.note(flag, wrong);
            }
            stand_in
        })
    }
}

impl Config {
    pub fn new(args: ServeArgs, engine: &EngineArgs) -> Result<Self, Error> {
        let mut wrong = misplaced(&args.models, args.default_model.as_deref(), engine);
        let Check { models, given, device, engine } = Check::of(args.models, engine, &mut wrong);
        let chaos = wrong.or("--chaos", args.chaos.as_deref().unwrap_or_default(), str::parse, Chaos::default());
        let drain_delay = wrong.or("--drain-delay", &args.drain_delay, duration, MAX_TIME);
        let drain_timeout = wrong.or("--drain-timeout", &args.drain_timeout, duration, MAX_TIME);
        let grpc_listen = Some(args.grpc_listen.as_str()).filter(|text| !["", "off"].contains(text));
        let mut config = Self {
            models,
            listen: wrong.or("--listen", &args.listen, resolve, NOWHERE),
            grpc_listen: grpc_listen.map(|text| wrong.or("--grpc-listen", text, resolve, NOWHERE)),
            probe_listen: args.probe_listen.map(|text| wrong.or("--probe-listen", &text, resolve, NOWHERE)),
            stall_limit: wrong.or("--stall-limit", &args.stall_limit, some_time, MAX_TIME),
            on_fatal: args.on_fatal,
            dependencies: dependencies(&args.dependencies, &chaos, &mut wrong),
            device,
            engine,
            default_model: args.default_model,
            model_control: args.model_control,
            control_token: args.control_token.as_ref().and_then(|given| token(given, &mut wrong)),
            load_timeout: wrong.or("--load-timeout", &args.load_timeout, some_time, MAX_TIME),
            given,
            drain_delay,
            drain_timeout,
            ready_while_draining: args.ready_while_draining,
            request_timeout: wrong.or("--request-timeout", &args.request_timeout, some_time, MAX_TIME),
            max_queue: at_least_one("--max-queue", args.max_queue, &mut wrong),
            request_memory: args
                .request_memory
                .map_or_else(memory::share, |text| wrong.or("--request-memory", &text, memory::parse, 0)),
            io_threads: at_least_one("--io-threads", args.io_threads.unwrap_or_else(half_of_the_cores), &mut wrong),
            max_connections: at_least_one("--max-connections", args.max_connections, &mut wrong),
            idle_timeout: wrong.or("--idle-timeout", &args.idle_timeout, some_time, MAX_TIME),
            label: args.label,
            console: !args.no_console,
            log_format: args.log_format,
            log_filter: wrong.or("--log-filter", &args.log_filter, log::filter, EnvFilter::default()),
            slow_request: Some(wrong.or("--slow-request", &args.slow_request, duration, Duration::ZERO))
                .filter(|limit| !limit.is_zero()),
            traces: traces(&mut wrong),
            termination_log: args.termination_log,
            chaos,
            warnings: short_grace(args.termination_grace_seconds.as_deref(), drain_delay + drain_timeout)
                .into_iter()
                .collect(),
        };
        config.warnings.extend(nobody_orders(&config));
        if wrong.0.is_empty() { Ok(config) } else { Err(wrong) }
    }
}

/// What `check` was asked to do.
#[derive(Debug)]
pub struct Check {
    pub models: PathBuf,
    pub given: Given,
    pub device: DeviceChoice,
    pub engine: loader::Options,
}

impl Check {
    pub fn new(args: CheckArgs, engine: &EngineArgs) -> Result<Self, Error> {
        let mut wrong = misplaced(&args.models, None, engine);
        let check = Self::of(args.models, engine, &mut wrong);
        if wrong.0.is_empty() { Ok(check) } else { Err(wrong) }
    }

    fn of(args: ModelArgs, engine: &EngineArgs, wrong: &mut Error) -> Self {
        let device = wrong.or("--device", &args.device, str::parse, DeviceChoice::Auto);
        Self {
            models: args.models,
            given: Given { inputs: inputs(&args.inputs, wrong), model_name: model_name(args.model_name, wrong) },
            device,
            engine: engine_options(engine, device != DeviceChoice::Cpu),
        }
    }
}

/// Notes the names that are URLs: whoever looks for them later would show them, with their passwords.
fn misplaced(models: &ModelArgs, default_model: Option<&str>, engine: &EngineArgs) -> Error {
    let names = [
        ("MODELS_DIR|FILE.pt", Some(models.models.as_os_str())),
        ("--model-name", models.model_name.as_ref().map(AsRef::as_ref)),
        ("--default-model", default_model.map(AsRef::as_ref)),
        ("--engine-dir", engine.engine_dir.as_ref().map(AsRef::as_ref)),
        ("--libtorch", engine.libtorch.as_ref().map(AsRef::as_ref)),
    ];
    let mut wrong = Error::default();
    let is_url = |name: Option<&OsStr>| name.is_some_and(|name| name.to_string_lossy().contains("://"));
    names.into_iter().filter(|(_, name)| is_url(*name)).for_each(|(flag, _)| wrong.note(flag, MISPLACED));
    wrong
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

fn at_least_one(flag: &str, number: usize, wrong: &mut Error) -> usize {
    if number == 0 {
        wrong.note(flag, "0: expected at least 1");
    }
    number.max(1)
}

/// The token, unless no client could send it. It is not shown even where it is wrong.
fn token(given: &SecretString, wrong: &mut Error) -> Option<SecretString> {
    let text = given.expose_secret().trim();
    let can_be_sent = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !can_be_sent {
        wrong.note("--control-token", "is not shown: expected visible ASCII characters, and no blanks between them");
    }
    can_be_sent.then(|| text.into())
}

/// Of those that the cgroup's quota and the affinity mask leave; at least one. A second thread on two cores costs more in
/// waking and stealing than it serves: a request alone took half as long again.
fn half_of_the_cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

fn resolve(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| format!("{text}: expected an address and a port, such as 0.0.0.0:8080"))
}

/// What the variables of OpenTelemetry say.
fn traces(wrong: &mut Error) -> Option<Settings> {
    Settings::read(|name| std::env::var(name).ok()).unwrap_or_else(|(variable, expected)| {
        wrong.note(variable, expected);
        None
    })
}

fn inputs(texts: &[String], wrong: &mut Error) -> Vec<Port> {
    texts.iter().filter_map(|text| wrong.or("--input", text, |text| spec::parse_input(text).map(Some), None)).collect()
}

/// A name that a path can hold. One that is a URL has been noted already, and is not to be shown.
fn model_name(name: Option<String>, wrong: &mut Error) -> Option<String> {
    if let Some(name) = name.as_ref().filter(|name| name.contains('/') && !name.contains("://")) {
        wrong.note("--model-name", format!("{name}: expected a name without a slash, as /predict/MODEL has it"));
    }
    name
}

/// Where to look for the engine; without `cuda`, it leaves CUDA alone.
pub fn engine_options(engine: &EngineArgs, cuda: bool) -> loader::Options {
    loader::Options { engine_dir: engine.engine_dir.clone(), libtorch: engine.libtorch.clone(), cuda }
}

/// The dependencies that are described rightly and can be told apart.
fn dependencies(urls: &[String], chaos: &Chaos, wrong: &mut Error) -> Vec<Dependency> {
    let mut known: Vec<Dependency> = Vec::new();
    for (place, url) in (1..).zip(urls.iter().flat_map(|urls| urls.split_whitespace())) {
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
            Err(error) => wrong.note(&format!("--dependency #{place}:"), error),
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

/// A warning where models could be loaded and unloaded, and nobody is let do it.
fn nobody_orders(config: &Config) -> Option<String> {
    let nobody = config.probe_listen.is_none() && config.control_token.is_none();
    (config.model_control == ModelControl::Explicit && nobody).then(|| {
        "--model-control explicit: nobody can load a model without --probe-listen or --control-token".to_owned()
    })
}

/// A warning where the kubelet would kill a drain that is within its own limits, or where `grace` does not tell.
fn short_grace(grace: Option<&str>, drain: Duration) -> Option<String> {
    let text = grace.map(str::trim).filter(|text| !text.is_empty())?;
    // Seconds are what the pod's field has.
    let seconds = text.parse().map(Duration::from_secs).ok();
    let Some(grace) = seconds.or_else(|| humantime::parse_duration(text).ok()) else {
        let shown = if may_hold_password(text) { "" } else { text };
        return Some(format!(
            "--termination-grace-seconds {shown}: expected a number of seconds; whether the drain fits is not known"
        ));
    };
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
        assert!(warnings("30s")[0].contains("terminationGracePeriodSeconds is 30"), "{:?}", warnings("30s"));
        assert_eq!([warnings("2m"), warnings(""), warnings(" 40 ")], [const { Vec::<String>::new() }; 3]);
    }

    #[test]
    fn a_grace_period_that_cannot_be_read_is_only_warned_of() {
        for text in ["abc", "1.5", "99999999999999999999"] {
            let warnings = config(&["--termination-grace-seconds", text]).unwrap().warnings;
            assert!(warnings[0].starts_with(&format!("--termination-grace-seconds {text}: expected")), "{warnings:?}");
        }
    }

    #[test]
    fn what_may_be_a_password_is_shown_for_no_flag() {
        let url = "redis://:hunter2@cache";
        let flags = ["--listen", "--grpc-listen", "--probe-listen", "--device", "--drain-delay", "--request-timeout"];
        for flag in flags.into_iter().chain([
            "--chaos",
            "--input",
            "--default-model",
            "--model-name",
            "--engine-dir",
            "--libtorch",
        ]) {
            let error = config(&[flag, url]).unwrap_err().to_string();
            assert!(error.starts_with(flag) && !error.contains("hunter2"), "{error}");
        }
        let warnings = config(&["--termination-grace-seconds", url]).unwrap().warnings;
        assert!(!warnings[0].contains("hunter2"), "{warnings:?}");
        let error = config(&["--dependency", "host=db password=hunter2 redis://:hunter2@cache#x"]).unwrap_err();
        let said = ["--dependency #1: expected", "--dependency #2: expected", "--dependency #3: redis://cache: x: "];
        for (error, said) in error.0.iter().zip(said) {
            assert!(error.starts_with(said) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_check_shows_no_password_either() {
        let cli = Cli::try_parse_from(["torchpod", "check", "redis://:hunter2@cache"]).unwrap();
        let Some(Command::Check(args)) = cli.command else { panic!("not check") };
        let error = Check::new(args, &cli.engine).unwrap_err().to_string();
        assert!(error.starts_with("MODELS_DIR|FILE.pt ") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_server_that_nobody_can_order_is_warned_of() {
        let warnings = |more: &[&str]| config(&[&["--model-control", "explicit"], more].concat()).unwrap().warnings;
        assert!(warnings(&[])[0].contains("--probe-listen or --control-token"));
        assert!(
            warnings(&["--control-token", "x"]).is_empty() && warnings(&["--probe-listen", "0.0.0.0:1"]).is_empty()
        );
        assert!(config(&[]).unwrap().warnings.is_empty());
    }

    #[test]
    fn a_token_is_shown_nowhere() {
        let config = |token: &str| config(&["--model-control", "explicit", "--control-token", token]);
        assert!(!format!("{:?}", config("hunter2").unwrap()).contains("hunter2"));
        for odd in ["hunter2 hunter2", "hunter2\u{7f}", "hünter2", " "] {
            let error = config(odd).unwrap_err().to_string();
            assert!(error.starts_with("--control-token ") && !error.contains("nter2"), "{error}");
        }
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
    fn the_name_of_a_model_fits_the_path_that_asks_for_it() {
        let error = config(&["--model-name", "vision/net"]).unwrap_err().to_string();
        assert!(error.starts_with("--model-name vision/net: expected a name without a slash"), "{error}");
        assert_eq!(config(&["--model-name", "net-2.1"]).unwrap().given.model_name.as_deref(), Some("net-2.1"));
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
