//! Starts a cluster on loopback with a file applied, and keeps it until Ctrl-C, for trying kubectl and the plugin by hand.

use std::path::PathBuf;

use clap::Parser;
use loopback::{Api, Cluster, Rendered, Scale};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A cluster of real server processes on this machine: no Kubernetes is needed, nor root.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// A file of manifests, such as k8s/rendered/strategy-canary.yaml; without one the cluster is empty
    file: Option<PathBuf>,
    /// The most pods of a Deployment; a server takes about 300 MB
    #[arg(long, default_value_t = 4)]
    most: i32,
    /// How many times as often as the manifests say probes are asked
    #[arg(long, default_value_t = 10)]
    haste: u32,
}

fn main() -> std::io::Result<()> {
    let arguments = Arguments::parse();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let scale = Scale { haste: arguments.haste, ..Scale::few(arguments.most) };
    let cluster = Cluster::empty(scale);
    let api = Api::of(&cluster);
    if let Some(file) = arguments.file {
        cluster.apply(&Rendered::at(file));
    }
    println!("export KUBECONFIG={}", api.kubeconfig().display());
    println!("# Images torchpod:0.1.0 and torchpod:0.2.0 are there; any other cannot be pulled. Ctrl-C ends it.");
    signals.forever().next();
    Ok(())
}
