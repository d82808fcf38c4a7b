//! `kubectl torchpod`: what the server's manifests need and no schema sees.

use std::process::ExitCode;

use clap::Parser as _;
use kubectl_torchpod::cli::Cli;

fn main() -> ExitCode {
    Cli::parse().run()
}
