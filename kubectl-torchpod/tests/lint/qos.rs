//! The class that is computed from what is shipped is the one that its name claims.

use std::fs;

use kubectl_torchpod::cluster::Cluster;
use kubectl_torchpod::manifest::{Manifests, Source};
use kubectl_torchpod::qos::{self, Class};

fn class(component: &str) -> Class {
    let path = format!("{}/../k8s/rendered/{component}.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let manifests = Manifests::parse(vec![Source { name: path, text, found: false }]);
    let clusters = Cluster::all_of(&manifests);
    let workloads = clusters.iter().flat_map(|cluster| &cluster.workloads);
    let classes: Vec<Class> = workloads.map(|workload| qos::class(workload.pod)).collect();
    assert!(!classes.is_empty() && classes.iter().all(|class| *class == classes[0]), "{component}: {classes:?}");
    classes[0]
}

#[test]
fn each_component_renders_to_the_class_that_its_name_claims() {
    assert_eq!(class("component-qos-guaranteed"), Class::Guaranteed);
    assert_eq!(class("component-qos-burstable"), Class::Burstable);
    assert_eq!(class("component-qos-best-effort"), Class::BestEffort);
}
