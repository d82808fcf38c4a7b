//! A file of `k8s/rendered`, as an API server would take it.

use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kubectl_torchpod::cluster::Cluster;
use kubectl_torchpod::manifest::{Manifests, read};
use kubectl_torchpod::plan::{Asked, Plan};

/// The folder of the whole project.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("it lies below the workspace").to_owned()
}

pub struct Rendered {
    manifests: Manifests,
}

impl Rendered {
    pub fn read(name: &str) -> Rendered {
        let path = root().join(format!("k8s/rendered/{name}.yaml"));
        Rendered { manifests: Manifests::parse(read(&[path]).unwrap_or_else(|error| panic!("{error}"))) }
    }

    pub fn deployments(&self) -> Vec<Deployment> {
        self.all()
    }

    /// The only Service.
    pub fn service(&self) -> Service {
        let [service] = self.all().try_into().expect("a strategy has one Service");
        service
    }

    pub fn budget(&self) -> Option<PodDisruptionBudget> {
        self.all().pop()
    }

    /// What `kubectl torchpod plan` says of it.
    pub fn plan(&self, asked: &Asked) -> Plan {
        let objects = self.manifests.objects.iter().collect();
        Plan::new(&Cluster::new(objects, Vec::new()), asked).unwrap_or_else(|error| panic!("{error}"))
    }

    fn all<T: Clone + 'static>(&self) -> Vec<T> {
        self.manifests.objects.iter().filter_map(|object| object.typed::<T>().cloned()).collect()
    }
}
