//! The flags of `torchpod probe`. Apart from those of `serve`: another command line, for another reader.

use clap::{Args, ValueEnum};

/// Ask a running server once, as an exec probe does, and say in one line what it answered
///
/// Needs no shell and no curl. Exit codes: 0 it passes, 1 it does not or cannot be asked, 2 the flags are wrong.
#[derive(Debug, Args)]
#[command(
    after_help = "Flags win over variables. A status from 200 to 399 passes, as for the kubelet; over gRPC, SERVING does."
)]
pub struct ProbeArgs {
    /// The probe to ask: over gRPC, health is the service liveness and ready is readiness
    #[arg(value_enum)]
    pub question: Question,

    /// Where the server is [default: port 8080 on this host, with --grpc 9090; or where `TORCHPOD_PROBE_LISTEN` or
    /// `TORCHPOD_LISTEN`, with --grpc `TORCHPOD_GRPC_LISTEN`, has it]
    #[arg(long, value_name = "URL", hide_env_values = true, env = "TORCHPOD_PROBE_URL")]
    pub url: Option<String>,

    /// Ask grpc.health.v1 instead of HTTP
    #[arg(long, hide_env_values = true, env = "TORCHPOD_PROBE_GRPC", value_parser = clap::builder::FalseyValueParser::new())]
    pub grpc: bool,

    /// How long it may take, from connecting to the answer's last byte
    #[arg(long, value_name = "TIME", hide_env_values = true, env = "TORCHPOD_PROBE_TIMEOUT", default_value = "1s")]
    pub timeout: String,
}

/// What a server can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Question {
    Startup,
    Health,
    Ready,
}
