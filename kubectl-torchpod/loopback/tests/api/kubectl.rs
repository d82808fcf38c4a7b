//! The real kubectl: what our manifests' README tells people to do, and what they look at meanwhile.

use std::path::{Path, PathBuf};
use std::process::Command;

use loopback::Load;

use crate::served::Served;

const NAME: &str = "deployment/ml-model";

/// The pinned one, or that which `KUBECTL` names.
fn program() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = std::env::var_os("KUBECTL").map_or_else(|| root.join(".venvs/manifests/bin/kubectl"), PathBuf::from);
    assert!(path.exists(), "{} is not there: run `make test-manifests`, as `make test` does", path.display());
    path
}

impl Served {
    /// What it prints, its errors last, and whether it has done what it was told.
    fn try_kubectl(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(program());
        command.arg("--cache-dir").arg(self.api.folder().join("cache")).args(arguments);
        let output = command.env("KUBECONFIG", self.api.kubeconfig()).output().expect("kubectl starts");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).expect("it is text"))
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        let (done, text) = self.try_kubectl(arguments);
        assert!(done, "kubectl {arguments:?}: {text}");
        text
    }
}

fn rendered(name: &str) -> String {
    format!("{}/../../k8s/rendered/{name}.yaml", env!("CARGO_MANIFEST_DIR"))
}

/// Every word of each line.
fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn an_image_is_set_watched_and_taken_back_and_no_request_is_lost() {
    let served = Served::new("strategy-rolling", 2);
    let load = Load::on(&served.cluster);
    served.kubectl(&["set", "image", NAME, "model=torchpod:0.2.0"]);
    served.kubectl(&["annotate", NAME, "kubernetes.io/change-cause=a new model"]);
    let told = served.kubectl(&["rollout", "status", NAME, "--timeout=100s"]);
    assert!(told.contains("Waiting for") && told.contains("successfully rolled out"), "{told}");
    let sets = served.kubectl(&["get", "rs", "-o", "jsonpath={.items[*].metadata.name}"]);
    assert_eq!(sets.split(' ').count(), 2);
    served.kubectl(&["rollout", "undo", NAME]);
    served.kubectl(&["rollout", "status", NAME, "--timeout=100s"]);
    let history = served.kubectl(&["rollout", "history", NAME]);
    let causes: Vec<_> = words(&history)[2..4].iter().map(|line| (line[0], line[1..4].join(" "))).collect();
    assert_eq!(causes, [("2", "a new model".to_owned()), ("3", "Update to model".to_owned())], "{history}");
    let after = served.kubectl(&["get", "rs", "-o", "jsonpath={.items[*].metadata.name}"]);
    assert_eq!(after, sets, "the old ReplicaSet is the new one");
    served.cluster.settle("the new version has left");
    load.assert_nothing_was_lost(100);
    assert_eq!(served.cluster.count(5).into_keys().collect::<Vec<_>>(), ["v1"]);
}

#[test]
fn a_strategy_is_applied_looked_at_and_cut_over() {
    let served = Served::empty();
    let text = std::fs::read_to_string(rendered("strategy-blue-green")).expect("it is rendered");
    let file = served.api.folder().join("one.yaml");
    std::fs::write(&file, text.replace("replicas: 3", "replicas: 1")).expect("a file");
    let file = file.to_str().expect("a path");
    let made = served.kubectl(&["apply", "-f", file]);
    assert!(made.lines().all(|line| line.ends_with(" created")), "{made}");
    let again = served.kubectl(&["apply", "-f", file]);
    assert!(again.contains("service/ml-model-service unchanged") && !again.contains("created"), "{again}");
    let generations = served.kubectl(&["get", "deployments", "-o", "jsonpath={.items[*].metadata.generation}"]);
    assert_eq!(generations, "1 1", "nothing is new");
    for name in ["ml-model-blue", "ml-model-green"] {
        served.kubectl(&["rollout", "status", "deployment", name, "--timeout=100s"]);
    }
    let all = served.kubectl(&["get", "deployments,replicasets,pods,services", "--no-headers"]);
    let seen = words(&all);
    let line = |start: &str| seen.iter().find(|line| line[0].starts_with(start)).unwrap_or_else(|| panic!("{all}"));
    assert_eq!(line("deployment.apps/ml-model-blue")[1..4], ["1/1", "1", "1"]);
    assert_eq!(line("replicaset.apps/ml-model-green-")[1..4], ["1", "1", "1"]);
    assert_eq!(line("pod/ml-model-green-")[1..4], ["1/1", "Running", "0"]);
    assert_eq!(line("service/ml-model-service")[1], "ClusterIP");
    served.kubectl(&["patch", "service", "ml-model-service", "-p", r#"{"spec":{"selector":{"version":"green"}}}"#]);
    let slices = served.kubectl(&["get", "endpointslices", "-o", "yaml"]);
    assert!(slices.contains("name: ml-model-green-") && !slices.contains("name: ml-model-blue-"), "{slices}");
    served.kubectl(&["delete", "-f", file, "--wait=false"]);
    served.cluster.settle("nothing is left");
    assert!(served.kubectl(&["get", "pods"]).contains("No resources found"));
}

#[test]
fn a_paused_deployment_waits_and_a_resumed_one_goes_on() {
    let served = Served::new("strategy-rolling", 1);
    served.kubectl(&["rollout", "pause", NAME]);
    served.kubectl(&["set", "image", NAME, "model=torchpod:0.2.0"]);
    served.kubectl(&["set", "env", NAME, "TORCHPOD_LOG_FORMAT=compact"]);
    let (done, told) = served.try_kubectl(&["rollout", "status", NAME, "--timeout=1s"]);
    assert!(!done, "{told}");
    assert_eq!(words(&served.kubectl(&["get", "rs", "--no-headers"])).len(), 1);
    served.kubectl(&["rollout", "resume", NAME]);
    served.kubectl(&["rollout", "status", NAME, "--timeout=100s"]);
    assert_eq!(words(&served.kubectl(&["get", "rs", "--no-headers"])).len(), 2, "both changes are one revision");
}

#[test]
fn a_node_is_drained_as_fast_as_the_budget_lets_it() {
    let served = Served::new("strategy-recreate", 3);
    let load = Load::on(&served.cluster);
    let told = served.kubectl(&["drain", "node-0", "--ignore-daemonsets", "--force"]);
    assert!(
        told.contains("it would violate the pod's disruption budget") && told.contains("node/node-0 drained"),
        "{told}"
    );
    served.cluster.settle("others have come in their place");
    let pods = served.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"]);
    assert_eq!(pods, "node-1 node-1 node-1");
    assert!(served.kubectl(&["get", "node", "node-0"]).contains("SchedulingDisabled"));
    load.assert_nothing_was_lost(100);
}

#[test]
fn a_misspelt_field_is_refused_and_a_strategy_may_be_applied_by_the_server() {
    let served = Served::empty();
    let file = rendered("strategy-canary");
    let text = std::fs::read_to_string(&file).expect("it is rendered");
    let wrong = served.api.folder().join("wrong.yaml");
    std::fs::write(&wrong, text.replace("replicas:", "replica:")).expect("a file");
    let (done, told) = served.try_kubectl(&["apply", "-f", wrong.to_str().expect("a path")]);
    assert!(!done && told.contains("unknown field \"spec.replica\""), "{told}");
    let rehearsed = served.kubectl(&["apply", "--server-side", "--dry-run=server", "-f", &file]);
    assert!(rehearsed.contains("serverside-applied (server dry run)"), "{rehearsed}");
    let wanted = served.kubectl(&["get", "deployment", "ml-model-stable", "--ignore-not-found"]);
    assert_eq!(wanted, "", "a rehearsal makes nothing");
}
