//! A file of `k8s/rendered`, as an API server would take it.

use std::path::{Path, PathBuf};

use kubectl_torchpod::cluster::Cluster;
use kubectl_torchpod::manifest::{Manifests, read};
use kubectl_torchpod::plan::{Asked, Plan};
use serde_json::Value;

/// The folder of the whole project.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it lies below the workspace").to_owned()
}

pub struct Rendered {
    path: PathBuf,
}

impl Rendered {
    /// One of ours, by its name.
    pub fn read(name: &str) -> Rendered {
        Rendered::at(root().join(format!("k8s/rendered/{name}.yaml")))
    }

    pub fn at(path: PathBuf) -> Rendered {
        Rendered { path }
    }

    /// Its objects, in order.
    pub fn objects(&self) -> Vec<Value> {
        let text =
            std::fs::read_to_string(&self.path).unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
        let read = serde_saphyr::from_multiple::<Value>(&text);
        read.unwrap_or_else(|error| panic!("{}: {error}", self.path.display()))
    }

    /// What `kubectl torchpod plan` says of it.
    pub fn plan(&self, asked: &Asked) -> Plan {
        let sources = read(std::slice::from_ref(&self.path)).unwrap_or_else(|error| panic!("{error}"));
        let manifests = Manifests::parse(sources);
        let objects = manifests.objects.iter().collect();
        Plan::new(&Cluster::new(objects, Vec::new()), asked).unwrap_or_else(|error| panic!("{error}"))
    }
}
