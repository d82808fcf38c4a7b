//! The Pod Security Standard "restricted", as Kubernetes publishes it, and what we ask beyond it.

use serde_json::{Value, json};

use crate::manifest::{Pod, all_rendered, list, rendered};

/// The kinds of volumes that the standard allows.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// What "restricted" would refuse.
fn refused(spec: &Value) -> Vec<String> {
    let mut refused = Vec::new();
    let mut rule = |holds: bool, what: &str| {
        if !holds {
            refused.push(what.to_owned());
        }
    };
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        rule(spec[field] != json!(true), field);
    }
    for volume in list(&spec["volumes"]) {
        let mut kinds = volume.as_object().expect("a volume").keys().filter(|key| *key != "name");
        rule(kinds.all(|kind| VOLUMES.contains(&kind.as_str())), "volumes");
    }
    let pod = &spec["securityContext"];
    for container in list(&spec["containers"]).iter().chain(list(&spec["initContainers"])) {
        let own = &container["securityContext"];
        let either = |field: &str| own.get(field).or_else(|| pod.get(field)).cloned().unwrap_or_default();
        rule(either("runAsNonRoot") == json!(true), "runAsNonRoot");
        rule(either("runAsUser") != json!(0), "runAsUser");
        rule(["RuntimeDefault", "Localhost"].map(Value::from).contains(&either("seccompProfile")["type"]), "seccomp");
        rule(own["allowPrivilegeEscalation"] == json!(false), "allowPrivilegeEscalation");
        rule(own["capabilities"]["drop"] == json!(["ALL"]), "capabilities.drop");
        rule(list(&own["capabilities"]["add"]).iter().all(|add| add == "NET_BIND_SERVICE"), "capabilities.add");
        rule(own["privileged"] != json!(true), "privileged");
        rule(own.get("procMount").is_none_or(|mount| mount == "Default"), "procMount");
        rule(list(&container["ports"]).iter().all(|port| port.get("hostPort").is_none()), "hostPort");
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let host = ["httpGet", "tcpSocket"].iter().any(|kind| container[probe][kind].get("host").is_some());
            rule(!host, "a probe's host");
        }
    }
    refused
}

#[test]
fn every_pod_passes_the_restricted_standard() {
    let mut checked = 0;
    for file in all_rendered() {
        for pod in file.pods() {
            assert_eq!(refused(pod.spec), [""; 0], "{}: {}", file.name, pod.owner);
            checked += 1;
        }
    }
    assert!(checked > 20, "pods were found");
}

#[test]
fn each_of_its_rules_is_enforced() {
    let base = rendered("base");
    let spec = base.pods()[0].spec;
    for (path, value, rule) in [
        ("/hostNetwork", json!(true), "hostNetwork"),
        ("/volumes", json!([{"name": "root", "hostPath": {"path": "/"}}]), "volumes"),
        ("/securityContext/runAsNonRoot", json!(false), "runAsNonRoot"),
        ("/securityContext/runAsUser", json!(0), "runAsUser"),
        ("/securityContext/seccompProfile/type", json!("Unconfined"), "seccomp"),
        ("/containers/0/securityContext/allowPrivilegeEscalation", json!(true), "allowPrivilegeEscalation"),
        ("/containers/0/securityContext/capabilities/drop", json!([]), "capabilities.drop"),
        ("/containers/0/securityContext/capabilities/add", json!(["SYS_ADMIN"]), "capabilities.add"),
        ("/containers/0/securityContext/privileged", json!(true), "privileged"),
        ("/containers/0/securityContext/procMount", json!("Unmasked"), "procMount"),
        ("/containers/0/ports/0/hostPort", json!(8080), "hostPort"),
        ("/containers/0/livenessProbe", json!({"httpGet": {"host": "localhost"}}), "a probe's host"),
    ] {
        let mut spec = spec.clone();
        let (parent, key) = path.rsplit_once('/').expect("a path");
        spec.pointer_mut(parent).unwrap_or_else(|| panic!("{parent}"))[key] = value;
        assert_eq!(refused(&spec), [rule], "{path}");
    }
}

#[test]
fn no_server_can_write_to_its_image_or_holds_a_token() {
    for file in all_rendered() {
        for pod in file.pods() {
            let read_only = |container: &Value| container["securityContext"]["readOnlyRootFilesystem"] == json!(true);
            assert!(pod.containers().iter().all(read_only), "{}: {}", file.name, pod.owner);
            // KServe makes this pod, and decides.
            if !pod.owner.starts_with("ServingRuntime/") {
                assert_eq!(pod.spec["automountServiceAccountToken"], json!(false), "{}: {}", file.name, pod.owner);
            }
        }
    }
}

#[test]
fn no_service_injects_variables_that_read_like_settings() {
    for file in all_rendered() {
        let servers = |pod: &Pod<'_>| pod.server().is_some() && !pod.owner.starts_with("ServingRuntime/");
        for pod in file.pods().into_iter().filter(servers) {
            assert_eq!(pod.spec["enableServiceLinks"], json!(false), "{}: {}", file.name, pod.owner);
        }
    }
}
