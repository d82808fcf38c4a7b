//! What a pod's container runs: the binary, with the arguments and the variables of the manifest.

use std::env;
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use k8s_openapi::api::core::v1::Container;
use rustix::process::{Pid, Signal, kill_process};

use crate::manifest::root;
use crate::network::Network;

/// What an image holds: what sets one version of the server apart from another.
#[derive(Clone, Debug)]
pub struct Version {
    /// What `GET /` says, unless the manifest has it.
    pub label: String,
    /// Where its image has its models.
    pub models: PathBuf,
    pub arguments: Vec<String>,
}

impl Version {
    pub fn good(label: &str) -> Version {
        Version { label: label.to_owned(), models: root().join("models"), arguments: Vec::new() }
    }

    /// One whose answers take so long that there is always one in flight.
    pub fn slow(label: &str) -> Version {
        let arguments = ["--chaos", "batch-delay=400ms"].map(str::to_owned).to_vec();
        Version { arguments, ..Version::good(label) }
    }

    /// One that loads, and waits for ever for a database: nobody listens on port 1.
    pub fn never_ready(label: &str) -> Version {
        let arguments = ["--dependency", "tcp://127.0.0.1:1"].map(str::to_owned).to_vec();
        Version { arguments, ..Version::good(label) }
    }

    /// One whose model cannot be read, so that it ends by itself.
    pub fn crashing(label: &str, models: PathBuf) -> Version {
        Version { models, ..Version::good(label) }
    }
}

/// `torchpod` in the folder of the running test's, as `cargo build` leaves it.
pub(crate) fn binary() -> PathBuf {
    let own = env::current_exe().expect("a program knows where it lies");
    // A test lies in `deps`, a program beside it.
    let folder = own.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).expect("it lies in a folder");
    let (binary, engine) = (folder.join("torchpod"), folder.join("libtorchpod_torch.so"));
    assert!(
        binary.exists() && engine.exists(),
        "the server and its engine are started from {}: run `cargo build` first, as `make test` does",
        folder.display()
    );
    binary
}

/// Where a container runs, and what it is told about that.
pub(crate) struct Place {
    pub(crate) network: Network,
    pub(crate) address: Ipv4Addr,
    /// The variables that name the Services.
    pub(crate) services: Vec<(String, String)>,
}

/// Starts a container, and sends its log to a file: the server of its image, or the command that it names.
pub(crate) fn start(container: &Container, version: &Version, place: &Place, log: File) -> Child {
    let mut command = match container.command.as_deref() {
        Some([program, arguments @ ..]) => {
            let mut command = Command::new(program);
            command.args(arguments).args(container.args.iter().flatten());
            command
        }
        _ => server(container, version, place),
    };
    command.envs(place.services.iter().map(|(name, value)| (name, value)));
    let both = log.try_clone().expect("a log opens twice");
    command.stdin(Stdio::null()).stdout(both).stderr(log);
    command.spawn().expect("the container's program starts")
}

fn server(container: &Container, version: &Version, place: &Place) -> Command {
    let Place { network, address, .. } = place;
    let mut command = Command::new(binary());
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TORCHPOD_")) {
        command.env_remove(name);
    }
    // A pod has a network of its own, in which every address is its own; ours is told which.
    for (name, port) in [("TORCHPOD_LISTEN", 8080), ("TORCHPOD_GRPC_LISTEN", 9090)] {
        command.env(name, format!("{address}:{}", network.port(port)));
    }
    for variable in container.env.iter().flatten() {
        let value = variable.value.as_deref().unwrap_or_default();
        let port = value.strip_prefix("0.0.0.0:").and_then(|port| port.parse().ok());
        let value = port.map_or_else(|| value.to_owned(), |port| format!("{address}:{}", network.port(port)));
        command.env(&variable.name, value);
    }
    // The machine's own file is not a pod's.
    command.env("TORCHPOD_TERMINATION_LOG", "/dev/null");
    let arguments = container.args.iter().flatten();
    if arguments.clone().next().is_none() {
        // As the image has it.
        command.arg("serve").arg(&version.models);
    }
    command
        .args(arguments.clone().map(|text| if text == "/models" { version.models.as_os_str() } else { text.as_ref() }));
    let names_itself = container.env.iter().flatten().any(|variable| variable.name == "TORCHPOD_LABEL");
    if !names_itself && !arguments.clone().any(|text| text == "--label") {
        command.args(["--label", &version.label]);
    }
    command.args(&version.arguments);
    command
}

pub(crate) fn terminate(child: &Child) {
    // One that has ended by itself, and is not waited for yet, takes a signal without harm.
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
}
