//! The command line as clap sees it: raw flags and TORCHPOD_* variables. `config` makes sense of them.

mod check;
mod model;
mod probe;
mod top;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use secrecy::SecretString;

pub use check::CheckArgs;
pub use model::ModelArgs;
pub use probe::{ProbeArgs, Question};
pub use top::TopArgs;

use crate::telemetry::LogFormat;

/// Serves PyTorch models over HTTP, and tells the kubelet the truth.
#[derive(Debug, Parser)]
#[command(name = "torchpod", disable_version_flag = true, arg_required_else_help = true, max_term_width = 100)]
pub struct Cli {
    /// Print the versions of the server, the engine ABI, the engine and libtorch
    #[arg(short = 'V', long)]
    pub version: bool,

    #[command(flatten)]
    pub engine: EngineArgs,

    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Serve(Box<ServeArgs>),
    Check(CheckArgs),
    Probe(ProbeArgs),
    Top(TopArgs),
}

/// What a latched fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnFatal {
    /// Answer everyone in flight, then end with code 70.
    Exit,
    /// Go on answering, with /health at 503.
    Stay,
}

/// Who decides which models are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModelControl {
    /// No: what is there at start serves, and nothing else.
    None,
    /// Yes; at start there may be none.
    Explicit,
}

/// Where the engine and its library are looked for.
#[derive(Debug, Clone, Args)]
pub struct EngineArgs {
    /// Folder of `libtorchpod_torch.so` [default: beside the executable, then ../lib/torchpod]
    #[arg(
        help_heading = "Engine",
        long,
        value_name = "DIR",
        hide_env_values = true,
        env = "TORCHPOD_ENGINE_DIR",
        global = true
    )]
    pub engine_dir: Option<PathBuf>,

    /// Folder that holds libtorch's lib/, such as site-packages/torch [default: the one it was built against]
    #[arg(
        help_heading = "Engine",
        long,
        value_name = "DIR",
        hide_env_values = true,
        env = "TORCHPOD_LIBTORCH",
        global = true
    )]
    pub libtorch: Option<PathBuf>,
}

/// Serve the models below a folder, or one TorchScript file
///
/// Ports open at once; models load in the background. The kubelet's probes are /startup, /health and /ready.
///
/// Exit codes: 0 clean, 1 a drain missed its deadline, 2 configuration, 3 a model could not be loaded, 70 a fatal fault.
#[derive(Debug, Args)]
#[command(
    after_help = "Every flag is also a variable: --drain-delay is TORCHPOD_DRAIN_DELAY. Flags win. Durations read like 5s or 200ms."
)]
pub struct ServeArgs {
    #[command(flatten)]
    pub models: ModelArgs,

    /// The model that /predict means [default: the only one]
    #[arg(help_heading = "Models", long, value_name = "NAME", hide_env_values = true, env = "TORCHPOD_DEFAULT_MODEL")]
    pub default_model: Option<String>,

    /// Whether models are loaded and unloaded while serving, by POST /v2/repository/…
    #[arg(
        help_heading = "Models",
        long,
        value_enum,
        hide_env_values = true,
        env = "TORCHPOD_MODEL_CONTROL",
        default_value = "none"
    )]
    pub model_control: ModelControl,

    /// What --listen wants as `Authorization: Bearer …` to load or unload; without it, only --probe-listen does
    #[arg(help_heading = "Models", long, value_name = "TOKEN", hide_env_values = true, env = "TORCHPOD_CONTROL_TOKEN")]
    pub control_token: Option<SecretString>,

    /// How long a model that is loaded while serving may take until it is given up
    #[arg(
        help_heading = "Models",
        long,
        value_name = "TIME",
        hide_env_values = true,
        env = "TORCHPOD_LOAD_TIMEOUT",
        default_value = "10m"
    )]
    pub load_timeout: String,

    /// Address for HTTP; port 0 takes a free one
    #[arg(
        help_heading = "Serving",
        long,
        value_name = "ADDR",
        hide_env_values = true,
        env = "TORCHPOD_LISTEN",
        default_value = "0.0.0.0:8080"
    )]
    pub listen: String,

    /// Address for gRPC; port 0 takes a free one, off opens none
    #[arg(
        help_heading = "Serving",
        long,
        value_name = "ADDR",
        hide_env_values = true,
        env = "TORCHPOD_GRPC_LISTEN",
        default_value = "0.0.0.0:9090"
    )]
    pub grpc_listen: String,

    /// A TOML file whose keys are the names of these flags, such as drain-delay = "10s"; flags and variables win
    #[arg(help_heading = "Serving", long, value_name = "FILE", hide_env_values = true, env = "TORCHPOD_CONFIG")]
    pub config: Option<PathBuf>,

    /// The longest that a request may take, from its head to its answer
    #[arg(
        help_heading = "Serving",
        long,
        value_name = "TIME",
        hide_env_values = true,
        env = "TORCHPOD_REQUEST_TIMEOUT",
        default_value = "30s"
    )]
    pub request_timeout: String,

    /// How many requests may wait per model before more are refused with 503
    #[arg(
        help_heading = "Serving",
        long,
        value_name = "REQUESTS",
        hide_env_values = true,
        env = "TORCHPOD_MAX_QUEUE",
        default_value = "1024"
    )]
    pub max_queue: usize,

    /// How much memory the bodies and tensors of all requests may hold, such as 512MiB; above it requests are refused with
    /// 503 [default: a quarter of what the container may use, at most 1GiB]
    #[arg(
        help_heading = "Serving",
        long,
        value_name = "BYTES",
        hide_env_values = true,
        env = "TORCHPOD_REQUEST_MEMORY"
    )]
    pub request_memory: Option<String>,

    /// Threads that serve connections; the rest of the cores is for computing [default: half of the cores]
    #[arg(help_heading = "Serving", long, value_name = "THREADS", hide_env_values = true, env = "TORCHPOD_IO_THREADS")]
    pub io_threads: Option<usize>,

    /// How many connections may be open on each port; above it, probes are still answered and the rest is refused with 503
    #[arg(
        help_heading = "Serving",
        long,
        value_name = "CONNECTIONS",
        hide_env_values = true,
        env = "TORCHPOD_MAX_CONNECTIONS",
        default_value = "10000"
    )]
    pub max_connections: usize,

    /// How long a connection may do nothing between requests: longer than the load balancer keeps its own
    #[arg(
        help_heading = "Serving",
        long,
        value_name = "TIME",
        hide_env_values = true,
        env = "TORCHPOD_IDLE_TIMEOUT",
        default_value = "75s"
    )]
    pub idle_timeout: String,

    /// What GET / answers, e.g. 'Model v1 (stable)' [default: the default model and its version]
    #[arg(help_heading = "Serving", long, value_name = "TEXT", hide_env_values = true, env = "TORCHPOD_LABEL")]
    pub label: Option<String>,

    /// Show no console to browsers that open /: they get the line that everybody else gets
    #[arg(help_heading = "Serving", long, hide_env_values = true, env = "TORCHPOD_NO_CONSOLE", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_console: bool,

    /// Address of a second listener for probes and metrics, with a thread and a runtime of its own
    #[arg(help_heading = "Probes", long, value_name = "ADDR", hide_env_values = true, env = "TORCHPOD_PROBE_LISTEN")]
    pub probe_listen: Option<String>,

    /// The longest that a batch may run before /health says `hung`
    #[arg(
        help_heading = "Probes",
        long,
        value_name = "TIME",
        hide_env_values = true,
        env = "TORCHPOD_STALL_LIMIT",
        default_value = "30s"
    )]
    pub stall_limit: String,

    /// What a fault does that only another process can cure: end with code 70, or stay, unhealthy
    #[arg(
        help_heading = "Probes",
        long,
        value_enum,
        hide_env_values = true,
        env = "TORCHPOD_ON_FATAL",
        default_value = "exit"
    )]
    pub on_fatal: OnFatal,

    /// What /ready waits for: tcp://, http(s)://, redis(s)://, postgres://, mysql:// or grpc://; once per dependency
    ///
    /// Options follow a #: optional (shown, but /ready does not wait for it), interval=5s, timeout=2s, failures=3 (in a
    /// row to go down), successes=1 (to come up), name=TEXT; such as `redis://cache:6379#optional,interval=2s`. In the
    /// variable, spaces stand between URLs.
    #[arg(
        help_heading = "Probes",
        long = "dependency",
        value_name = "URL",
        hide_env_values = true,
        env = "TORCHPOD_DEPENDENCY",
        value_delimiter = ' '
    )]
    pub dependencies: Vec<String>,

    /// How long a SIGTERM'd server still takes new connections while the cluster's routes change; 0s where preStop sleeps
    #[arg(
        help_heading = "The end",
        long,
        value_name = "TIME",
        hide_env_values = true,
        env = "TORCHPOD_DRAIN_DELAY",
        default_value = "5s"
    )]
    pub drain_delay: String,

    /// How long it then finishes requests in flight
    #[arg(
        help_heading = "The end",
        long,
        value_name = "TIME",
        hide_env_values = true,
        env = "TORCHPOD_DRAIN_TIMEOUT",
        default_value = "30s"
    )]
    pub drain_timeout: String,

    /// Keep /ready at 200 during the drain
    #[arg(help_heading = "The end", long, hide_env_values = true, env = "TORCHPOD_READY_WHILE_DRAINING", value_parser = clap::builder::FalseyValueParser::new())]
    pub ready_while_draining: bool,

    /// The pod's terminationGracePeriodSeconds, for a warning where a drain could not finish within it
    #[arg(
        help_heading = "The end",
        long,
        value_name = "SECONDS",
        hide_env_values = true,
        env = "TORCHPOD_TERMINATION_GRACE_SECONDS"
    )]
    pub termination_grace_seconds: Option<String>,

    /// Where the reason of a failure is left for the kubelet, if this file exists
    #[arg(
        help_heading = "The end",
        long,
        value_name = "FILE",
        hide_env_values = true,
        env = "TORCHPOD_TERMINATION_LOG",
        default_value = "/dev/termination-log"
    )]
    pub termination_log: PathBuf,

    /// How log lines look
    #[arg(
        help_heading = "Logs",
        long,
        value_enum,
        hide_env_values = true,
        env = "TORCHPOD_LOG_FORMAT",
        default_value = "compact"
    )]
    pub log_format: LogFormat,

    /// What is logged, as for `RUST_LOG`, e.g. `debug` or `info,torchpod::http=debug`
    #[arg(
        help_heading = "Logs",
        long,
        value_name = "FILTER",
        hide_env_values = true,
        env = "TORCHPOD_LOG_FILTER",
        default_value = "info"
    )]
    pub log_filter: String,

    /// From how long on a request is told of at info level, with where its time went: one of them a second; 0s tells of none
    #[arg(
        help_heading = "Logs",
        long,
        value_name = "TIME",
        hide_env_values = true,
        env = "TORCHPOD_SLOW_REQUEST",
        default_value = "1s"
    )]
    pub slow_request: String,

    /// Rehearse trouble: load-delay=30s, batch-delay=200ms, hang-after=10s, worker-panic-after=10s, …
    ///
    /// load-delay spreads loading over that time, batch-delay slows every batch, dependency-down=redis fails the checks
    /// of a dependency by name or scheme. The others come in the first batch that long after serving began: hang-after (it
    /// never returns), worker-panic-after (worker-panics=3: in three batches), device-lost-after; runtime-stall-after
    /// stops the async runtime, as only --probe-listen can tell. candidate-hang=1 keeps the first model that is loaded
    /// while serving in its warm-up for ever.
    #[arg(
        help_heading = "Rehearsal",
        long,
        value_name = "KEY=VALUE,…",
        hide_env_values = true,
        env = "TORCHPOD_CHAOS"
    )]
    pub chaos: Option<String>,
}
