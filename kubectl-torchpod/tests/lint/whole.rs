//! What needs more than one look: false alarms that must not be, and alarms of which an example shows only one form.

use kubectl_torchpod::lint::Given;

use crate::{findings, reports};

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 3
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      containers:
      - name: web
        image: web:1
        ports: [{ containerPort: 8080 }]
        readinessProbe: { httpGet: { path: /ready, port: 8080 } }
        resources: { requests: { cpu: 500m, memory: 1Gi } }
---
";

const BUDGET: &str = "\
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: web }
spec:
  maxUnavailable: 1
  selector: { matchLabels: { app: web } }
";

const DATABASE: &str = "\
apiVersion: v1
kind: Service
metadata: { name: database }
spec:
  selector: { app: database }
  ports: [{ port: 5432, targetPort: postgres }]
";

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: { name: web, namespace: other }
spec:
  selector: { app: web }
  ports: [{ port: 80, targetPort: nothing }]
";

const LIST: &str = "\
apiVersion: v1
kind: ServiceList
items:
- metadata: { name: web }
  spec: { ports: [{ port: 80 }], topologyKeys: ['*'] }
";

fn budget(spec: &str) -> String {
    format!("{WEB}{}", BUDGET.replace("maxUnavailable: 1", spec))
}

#[test]
fn a_budget_counts_all_pods_that_it_selects() {
    let canary = WEB
        .replace("name: web }", "name: web-canary }")
        .replace("replicas: 3", "replicas: 1")
        .replace("app: web }", "app: web, track: canary }");
    assert!(reports(&budget("minAvailable: 3"), "budget-allows-nothing"));
    assert!(!reports(&(canary + &budget("minAvailable: 3")), "budget-allows-nothing"));
    assert!(reports(&budget("minAvailable: 100%"), "budget-allows-nothing"));
    assert!(reports(&budget("maxUnavailable: 0"), "budget-allows-nothing"));
    assert!(!reports(&budget("minAvailable: 50%"), "budget-allows-nothing"));
    assert!(!reports(&budget("minAvailable: 3").replace("replicas: 3", "replicas: 0"), "budget-allows-nothing"));
}

#[test]
fn nothing_is_said_of_pods_that_the_input_does_not_have() {
    let alone = BUDGET.replace("maxUnavailable: 1", "minAvailable: 3");
    assert!(!reports(&alone, "budget-allows-nothing") && !reports(&alone, "budget-selects-nothing"));
    let told = findings(&format!("{WEB}{DATABASE}"), &Given::default());
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn objects_of_other_namespaces_are_not_mixed_up() {
    assert!(!reports(&format!("{WEB}{SERVICE}"), "service-port-name-unknown"));
    assert!(reports(&format!("{WEB}{}", SERVICE.replace(", namespace: other", "")), "service-port-name-unknown"));
}

#[test]
fn a_wrong_value_hides_nothing_else() {
    let text = WEB.replace("replicas: 3", "replicas: three\n  minReadySeconds: 700");
    assert!(
        reports(&text, "field-type") && reports(&text, "progress-deadline-too-short"),
        "{:?}",
        findings(&text, &Given::default())
    );
    let text = WEB
        .replace("image: web:1", "image: web:latest\n        env: [{ name: A, value: 1 }, { name: B, value: true }]");
    let told = findings(&text, &Given::default());
    assert_eq!(told.iter().filter(|told| told.starts_with("field-type: ")).count(), 2, "{told:?}");
    assert!(reports(&text, "image-tag-moves"));
}

#[test]
fn a_list_is_as_good_as_its_items() {
    let item = WEB.trim_end_matches("---\n").replace("app: web } }\n  template", "app: wbe } }\n  template");
    let items = "- ".to_owned() + &item.replace('\n', "\n  ");
    assert!(reports(&format!("apiVersion: v1\nkind: List\nitems:\n{items}"), "selector-labels-mismatch"));
}

#[test]
fn json_is_yaml() {
    let spec = r#"{"containers": [{"name": "web", "imagee": "web:1"}]}"#;
    let pod = format!(r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "web"}}, "spec": {spec}}}"#);
    assert!(reports(&pod, "field-unknown"));
}

#[test]
fn a_kind_in_a_group_that_lacks_it_is_told_where_it_is() {
    let told = findings(&WEB.replace("apps/v1", "v1"), &Given::default());
    assert_eq!(told, ["kind-misspelt: there is no such kind; apps/v1 Deployment is the nearest"]);
    assert!(reports(&WEB.replace("apps/v1", "extensions/v1beta1"), "api-removed"));
    assert!(!reports(&WEB.replace("apps/v1", "extensions/v1beta1"), "kind-misspelt"));
}

#[test]
fn a_version_decides_what_is_removed_and_what_is_too_new() {
    let cron = "apiVersion: batch/v1beta1\nkind: CronJob\nmetadata: { name: a }\n";
    let at = |version: &str| Given { version: version.parse().unwrap(), ..Given::default() };
    let told = |version: &str| findings(cron, &at(version)).iter().any(|told| told.starts_with("api-removed"));
    assert!(told("1.36") && told("1.25") && !told("1.24"));
    let sidecar = WEB.replace(
        "containers:",
        "initContainers: [{ name: proxy, image: \"proxy:1\", restartPolicy: Always }]\n      containers:",
    );
    let told = |version: &str| findings(&sidecar, &at(version)).iter().any(|told| told.starts_with("field-too-new"));
    assert!(told("1.28") && !told("1.29"));
}

#[test]
fn the_drain_of_other_servers_is_told_by_a_flag() {
    let given = |seconds| Given { drain_time: Some(std::time::Duration::from_secs(seconds)), ..Given::default() };
    let told = |seconds| findings(WEB, &given(seconds)).iter().any(|told| told.starts_with("grace-too-short"));
    assert!(told(26) && !told(25), "30 s of grace, 5 s of slack");
}

#[test]
fn a_typed_list_is_as_good_as_its_items_too() {
    assert!(reports(LIST, "field-removed"), "{:?}", findings(LIST, &Given::default()));
}

#[test]
fn amounts_may_be_numbers_and_a_schema_may_be_any() {
    let pod = WEB.replace("cpu: 500m", "cpu: 0.5").replace("memory: 1Gi", "memory: 1073741824");
    let crd = include_str!("../data/any.yaml");
    let told = findings(&(pod + crd), &Given::default());
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_port_s_name_leads_to_the_number_on_which_the_server_must_listen() {
    let pod = |number: u16| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{ name: web, labels: {{ app: web }} }}\nspec:\n  containers:\n  - \
             name: model\n    image: torchpod:0.1.0\n    ports: [{{ name: web, containerPort: {number} }}]\n    \
             readinessProbe: {{ httpGet: {{ path: /ready, port: web }} }}\n---\n{}",
            SERVICE.replace(", namespace: other", "").replace("nothing", "web")
        )
    };
    for rule in ["service-port-closed", "probe-port-unresolved"] {
        assert!(!reports(&pod(8080), rule) && reports(&pod(8000), rule), "{rule}");
    }
}

#[test]
fn containers_that_run_before_the_others_are_held_against_quotas_and_limits_too() {
    let quota = "apiVersion: v1\nkind: ResourceQuota\nmetadata: { name: q }\nspec: { hard: { requests.cpu: 10 } }\n";
    assert!(!reports(&format!("{WEB}{quota}"), "quota-refuses-pod"));
    let init = "initContainers: [{ name: init, image: \"init:1\" }]\n      containers:";
    let web = WEB.replace("containers:", init);
    assert!(reports(&format!("{web}{quota}"), "quota-refuses-pod"));
    assert!(reports(&web.replace("init:1", "init"), "image-tag-moves"));
}

#[test]
fn a_pod_that_ends_by_itself_needs_no_readiness() {
    let service = SERVICE.replace(", namespace: other", "");
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: { name: test, labels: { app: web } }\nspec:\n  restartPolicy: Never\n  \
               containers: [{ name: test, image: curl:1 }]\n";
    let both = format!("{pod}---\n{service}");
    assert!(!reports(&both, "readiness-missing"));
    assert!(reports(&both.replace("Never", "Always"), "readiness-missing"));
}

#[test]
fn a_budget_without_a_number_allows_nothing() {
    assert!(reports(&BUDGET.replace("  maxUnavailable: 1\n", ""), "budget-allows-nothing"));
}

#[test]
fn labels_that_pods_get_when_they_run_are_no_slip() {
    let set = WEB.replace("kind: Deployment", "kind: StatefulSet");
    let service = SERVICE.replace(", namespace: other", "");
    for label in ["role: primary", "statefulset.kubernetes.io/pod-name: web-0"] {
        let one = service.replace("{ app: web }", &format!("{{ app: web, {label} }}"));
        assert!(!reports(&format!("{set}{one}"), "service-selects-nothing"), "{label}");
    }
    let none = service.replace("{ app: web }", "{ app: web, role: primary }");
    assert!(reports(&format!("{WEB}{none}"), "service-selects-nothing"));
}

#[test]
fn a_quota_s_scope_and_the_pod_s_class_decide_whom_it_counts() {
    let quota = |scopes: &str| {
        format!(
            "apiVersion: v1\nkind: ResourceQuota\nmetadata: {{ name: q }}\nspec:\n  hard: {{ pods: 2 }}\n  scopes: \
             [{scopes}]\n"
        )
    };
    for (scopes, counted) in [("", true), ("NotBestEffort", true), ("BestEffort", false), ("Terminating", false)] {
        assert_eq!(reports(&format!("{WEB}{}", quota(scopes)), "quota-exceeded"), counted, "3 pods of 2, {scopes}");
    }
    let light = WEB.replace("resources: { requests: { cpu: 500m, memory: 1Gi } }", "resources: {}");
    assert!(reports(&format!("{light}{}", quota("BestEffort")), "quota-exceeded"));
    let quota = quota("").replace("pods: 2", "requests.cpu: 2");
    let told = findings(&format!("{light}{quota}"), &Given::default());
    let refusal = "quota-refuses-pod: web does not say requests.cpu, as ResourceQuota/q wants; its pod is BestEffort";
    assert!(told.contains(&refusal.to_owned()), "{told:?}");
}
