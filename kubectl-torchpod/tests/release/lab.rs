//! A cluster of real servers, with its API, and the program that a user would run against it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use loopback::{Api, Cluster, Load, Rendered, Scale, Version};
use serde_json::Value;

pub(crate) const STABLE: &str = "ml-model-stable";
pub(crate) const CANARY: &str = "ml-model-canary";
pub(crate) const OLD: &str = "torchpod:0.1.0";
pub(crate) const NEW: &str = "torchpod:0.2.0";

/// Long enough for the longest run on a loaded machine, short enough to end a test that hangs.
const PATIENCE: Duration = Duration::from_mins(30);

pub(crate) struct Lab {
    // The API ends before the cluster that it serves.
    pub(crate) api: Api,
    pub(crate) cluster: Cluster,
}

/// A run of the program that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Lab {
    /// `k8s/strategies/canary`, with so many stable pods at most, and one canary.
    pub(crate) fn canary(stable: i32) -> Lab {
        Lab::of("strategy-canary", Scale { rest: Duration::from_millis(5), ..Scale::few(stable) })
    }

    pub(crate) fn of(rendered: &str, scale: Scale) -> Lab {
        let cluster = Cluster::with(&Rendered::read(rendered), scale);
        Lab { api: Api::of(&cluster), cluster }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-torchpod"));
        command.args(arguments).env("KUBECONFIG", self.api.kubeconfig()).stdin(Stdio::null());
        command
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let file = |name| File::create(folder.path().join(name)).unwrap();
        let child = self.command(arguments).stdout(file("out")).stderr(file("err")).spawn().unwrap();
        Running { child, folder }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        let ran = self.start(arguments).end();
        println!("{}\n{ran}", arguments.join(" "));
        ran
    }

    /// What a run on `kubectl torchpod canary` with short gates comes to.
    pub(crate) fn try_canary(&self, image: &str, more: &[&str]) -> Ran {
        self.run(&canary(image, more))
    }

    /// A good version, under another name.
    pub(crate) fn register(&self, image: &str, chaos: &str) {
        let arguments = ["--chaos", chaos].map(str::to_owned).to_vec();
        self.cluster.register(image, Version { arguments, ..Version::good(image) });
    }

    pub(crate) fn sizes(&self) -> (i32, i32) {
        let size = |name| self.cluster.deployment(name, |one| one.spec().replicas);
        (size(STABLE), size(CANARY))
    }

    /// What `status` says.
    pub(crate) fn status(&self) -> Value {
        let ran = self.start(&["status", "ml-model", "-o", "json", "--sample", "0s"]).end();
        serde_json::from_str(&ran.out).unwrap()
    }

    /// Images by Deployment.
    pub(crate) fn images(&self) -> BTreeMap<String, String> {
        let status = self.status();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let all = status["deployments"].as_array().unwrap();
        all.iter().map(|one| (text(&one["name"]), text(&one["image"]))).collect()
    }

    /// How often the Lease was taken or renewed, by whomever.
    pub(crate) fn held(&self) -> usize {
        let asked = self.api.asked();
        let of_leases = asked.iter().filter(|asked| asked.path.contains("/leases") && asked.method != "GET");
        of_leases.filter(|asked| asked.status < 300).count()
    }

    /// All pods are stable's, of this image, and serve.
    pub(crate) fn assert_all_stable(&self, image: &str, pods: i32) {
        assert_eq!(self.sizes(), (pods, 0));
        assert_eq!(self.images()[STABLE], image);
        self.cluster.settle("what was to leave has left");
    }

    /// The service goes on without a lost request.
    pub(crate) fn assert_nothing_was_lost(&self, load: Load, requests: usize) {
        load.assert_nothing_was_lost(requests);
        self.cluster.assert_all_ended_well();
    }
}

/// What a test that is not about numbers has: few requests are enough.
pub(crate) const LENIENT: [&str; 2] = ["--detect", "25%"];

/// `kubectl torchpod canary` with short gates.
pub(crate) fn canary<'a>(image: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    with_gate("3s", image, more)
}

pub(crate) fn with_gate<'a>(gate: &'a str, image: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec!["canary", "ml-model", "--image", image, "--gate", gate, "--steps", "25,100"];
    arguments.extend(more);
    arguments
}

pub(crate) struct Running {
    pub(crate) child: Child,
    folder: tempfile::TempDir,
}

impl Running {
    pub(crate) fn end(mut self) -> Ran {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                panic!("it does not end: {}\n{}", self.read("out"), self.read("err"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let code = self.child.wait().unwrap().code();
        Ran { code, out: self.read("out"), err: self.read("err") }
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        self.read("out")
    }

    /// Waits until it has said so.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.said().contains(text) {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended: {}{}", self.said(), self.read("err"));
            assert!(Instant::now() < deadline, "it never said {text}: {}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn read(&self, name: &str) -> String {
        let mut text = String::new();
        File::open(self.folder.path().join(name)).unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    pub(crate) fn assert_code(&self, code: i32) -> &Ran {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    pub(crate) fn assert_said(&self, text: &str) -> &Ran {
        assert!(self.out.contains(text) || self.err.contains(text), "it did not say {text:?}: {self}");
        self
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}{}exit code {:?}", self.out, self.err, self.code)
    }
}
