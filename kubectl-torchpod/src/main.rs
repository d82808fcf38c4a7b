//! `kubectl torchpod`: what the server's manifests need and no schema sees.

use clap::Parser;

/// Checks manifests for torchpod, and for other servers of models.
#[derive(Debug, Parser)]
#[command(name = "kubectl torchpod", version)]
struct Cli {}

fn main() {
    Cli::parse();
}
