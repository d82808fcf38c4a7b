//! The cluster's API server: enough of Kubernetes' API, over plain HTTP, for kubectl and for client libraries.

mod answer;
mod discovery;
mod fault;
mod patch;
mod proxy;
mod request;
mod right;
mod selector;
mod server;
mod strategic;
mod table;
mod watch;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch as signal;

use crate::cluster::{Cluster, Shared};
use crate::object::Problem;
pub use fault::Fault;
use fault::Faults;

/// The version of Kubernetes whose API it speaks.
pub(crate) const VERSION: &str = "v1.36.0";

/// An API server that runs. Dropped, it ends.
pub struct Api {
    serving: Arc<Serving>,
    folder: TempDir,
    url: String,
    end: signal::Sender<bool>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What every request sees.
pub(crate) struct Serving {
    pub(crate) cluster: Arc<Shared>,
    pub(crate) faults: Faults,
    asked: Mutex<Vec<Asked>>,
    /// None, where everything is allowed.
    rights: Mutex<Option<Vec<PolicyRule>>>,
}

/// A request that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub method: String,
    /// With its query.
    pub path: String,
    pub status: u16,
}

impl Api {
    /// Serves a cluster, on an address of its own.
    pub fn of(cluster: &Cluster) -> Api {
        let cluster = cluster.shared.clone();
        let listener = server::listen((cluster.network.api(), 0).into()).expect("an address of its own");
        let address = listener.local_addr().expect("it listens");
        let serving =
            Arc::new(Serving { cluster, faults: Faults::default(), asked: Mutex::default(), rights: Mutex::default() });
        let (end, ended) = signal::channel(false);
        let kept = serving.clone();
        let serve = move || server::serve(listener, &kept, ended);
        let thread = thread::Builder::new().name("api".to_owned()).spawn(serve).expect("a thread starts");
        let url = format!("http://{address}");
        let folder = tempfile::tempdir().expect("a folder for the kubeconfig");
        std::fs::write(folder.path().join("config"), kubeconfig(&url)).expect("a file");
        Api { serving, folder, url, end, thread: Some(thread) }
    }

    /// A kubeconfig that names it, whose namespace is `default`.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// A folder that goes with it, such as for kubectl's cache.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Breaks something, until it is over by itself or healed.
    pub fn fault(&self, fault: Fault) {
        if fault == Fault::Gone {
            self.serving.cluster.change(|state, _| {
                state.show();
                state.history.forget();
            });
        }
        self.serving.faults.begin(fault);
    }

    /// Ends every fault.
    pub fn heal(&self) {
        self.serving.faults.heal();
    }

    /// Allows what the rules of a Role do, and nothing else, in every namespace.
    pub fn permit(&self, rules: Vec<PolicyRule>) {
        *self.serving.rights.lock().unwrap_or_else(PoisonError::into_inner) = Some(rules);
    }

    /// What was asked so far, in the order of the answers.
    pub fn asked(&self) -> Vec<Asked> {
        self.serving.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        self.end.send_replace(true);
        let ended = self.thread.take().expect("it is dropped once").join();
        assert!(ended.is_ok() || thread::panicking(), "the API server panicked");
    }
}

impl Serving {
    fn check_right(&self, target: &request::Target, asking: &request::Asking) -> Result<(), Problem> {
        match &*self.rights.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(rules) => right::check(rules, target, asking),
            None => Ok(()),
        }
    }

    fn note(&self, asked: Asked) {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    }
}

/// JSON is YAML.
fn kubeconfig(url: &str) -> String {
    let context = json!({"cluster": "loopback", "user": "loopback", "namespace": "default"});
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "loopback",
        "clusters": [{"name": "loopback", "cluster": {"server": url}}],
        "users": [{"name": "loopback", "user": {}}],
        "contexts": [{"name": "loopback", "context": context}],
    });
    serde_json::to_string_pretty(&config).expect("it is JSON")
}
