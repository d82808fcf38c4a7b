//! `kubectl torchpod plan`, as its users run it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

pub(crate) fn rendered(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("k8s/rendered").join(format!("{name}.yaml"))
}

pub(crate) fn plan(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-torchpod"));
    command.arg("plan").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have ended by itself, with nothing read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

pub(crate) fn text(arguments: &[&str], input: &str) -> String {
    let output = plan(arguments, input);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn told(arguments: &[&str], input: &str) -> Value {
    let output = plan(&[arguments, &["--output", "json"]].concat(), input);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A Deployment of `replicas` pods with probes of a second.
fn manifest(replicas: u32, strategy: &Value, pod: &Value) -> String {
    let probe = |path: &str, failures: u32| json!({"httpGet": {"path": path, "port": 8080}, "periodSeconds": 1, "failureThreshold": failures});
    let mut spec = json!({
        "automountServiceAccountToken": false,
        "containers": [{
            "name": "model",
            "image": "example.com/model:1",
            "startupProbe": probe("/startup", 60),
            "readinessProbe": probe("/ready", 3),
        }],
    });
    for (key, value) in pod.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let labels = json!({"app": "model"});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "model"},
        "spec": {
            "replicas": replicas,
            "strategy": strategy,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    })
    .to_string()
}

fn rolling(surge: u32, unavailable: u32) -> Value {
    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
}

const ARGUMENTS: [&str; 5] = ["-", "--load-time", "3s", "--drain-time", "2s"];

#[test]
fn a_manifest_on_standard_input_is_told_as_data() {
    // As in the recording r04-s2-u1: 8.1 s, between 3 and 6 pods, and 7 with the ending one.
    let told = told(&ARGUMENTS, &manifest(4, &rolling(2, 1), &json!({})));
    assert_eq!(told["outcome"], "complete");
    assert!((told["duration_s"].as_f64().unwrap() - 8.13).abs() < 1.0, "{}", told["duration_s"]);
    for (key, value) in [("min_available", 3), ("max_pods", 6), ("max_pods_with_terminating", 7)] {
        assert_eq!(told[key], value, "{key}");
    }
    let steps = told["steps"].as_array().unwrap().iter();
    let sizes = steps.flat_map(|step| step["sizes"].as_array().unwrap());
    let sizes: Vec<String> = sizes.map(|size| format!("{} {}", size["name"].as_str().unwrap(), size["to"])).collect();
    assert_eq!(sizes, ["v2 2", "v1 3", "v2 3", "v1 2", "v2 4", "v1 1", "v1 0"]);
    let shares = told["traffic"].as_array().unwrap();
    assert_eq!(shares.first().unwrap()["shares"], json!([{"name": "v1", "share": 1.0}]));
    let last = json!([{"name": "v1", "share": 0.0}, {"name": "v2", "share": 1.0}]);
    assert_eq!(shares.last().unwrap()["shares"], last);
}

#[test]
fn people_see_the_picture_line_by_line_and_what_it_comes_to() {
    let text = text(&ARGUMENTS, &manifest(4, &rolling(2, 1), &json!({})));
    assert!(text.contains("[v1] [v1] [v1] [X] (v2) (v2) (v2)"), "{text}");
    assert!(text.contains("[v1] [v1] [v1] (v2) (v2) (v2)"), "{text}");
    assert!(text.contains("[v2] [v2] [v2] [v2]\n") || text.contains("[v2] [v2] [v2] [v2]  "), "{text}");
    assert!(text.contains("never fewer than 3 of 4"), "{text}");
    assert!(text.contains("promised: 3 to 6 pods"), "{text}");
    assert!(text.contains("v2 answers 25 % from 4."), "{text}");
}

#[test]
fn a_chart_is_an_svg_that_draws_every_band_and_the_promise() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.svg");
    text(&[&ARGUMENTS[..], &["--chart", path.to_str().unwrap()]].concat(), &manifest(4, &rolling(2, 1), &json!({})));
    let svg = fs::read_to_string(path).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    for band in ["v1 ready", "v2 ready", "v2 starting", "ending", "promised: 3", "at most: 6"] {
        assert!(svg.contains(&format!(">{band}</text>")), "{band}");
    }
    assert_eq!(svg.matches("<polygon").count(), 4);
}

#[test]
fn with_the_last_gpu_taken_it_says_what_it_waits_for_and_ends_with_1() {
    let gpu = json!({"nvidia.com/gpu": 1});
    let pod = json!({"containers": [{"name": "model", "image": "example.com/model:1", "resources": {"limits": gpu}}]});
    let tight = [&ARGUMENTS[..], &["--nodes", "3", "--gpus-per-node", "1"]].concat();
    let output = plan(&tight, &manifest(3, &rolling(1, 0), &pod));
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("pods wait for a GPU") && text.contains("maxSurge: 0"), "{text}");
    // One that may be missing gives its GPU to its successor.
    let told = told(&tight, &manifest(3, &rolling(0, 1), &pod));
    assert_eq!((&told["outcome"], &told["max_gpus"]), (&json!("complete"), &json!(3)));
    // With one to spare it goes on.
    let spare = [&ARGUMENTS[..], &["--nodes", "4", "--gpus-per-node", "1"]].concat();
    assert_eq!(self::told(&spare, &manifest(3, &rolling(1, 0), &pod))["outcome"], "complete");
    // Nobody said how many there are.
    let text = self::text(&ARGUMENTS, &manifest(3, &rolling(1, 0), &pod));
    assert!(text.contains("takes 3 GPUs more than before"), "{text}");
}

#[test]
fn a_required_anti_affinity_stops_a_surge_without_a_spare_node() {
    let term = json!({"labelSelector": {"matchLabels": {"app": "model"}}, "topologyKey": "kubernetes.io/hostname"});
    let pod = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    let on = |nodes| told(&[&ARGUMENTS[..], &["--nodes", nodes]].concat(), &manifest(3, &rolling(1, 0), &pod));
    assert_eq!(on("3")["outcome"], "blocked");
    assert_eq!(on("4")["outcome"], "complete");
    let notes = told(&ARGUMENTS, &manifest(3, &rolling(1, 0), &pod))["notes"].to_string();
    assert!(notes.contains("fewer than 4 nodes"), "{notes}");
}

#[test]
fn a_quota_stops_a_surge() {
    let quota = r#"{"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"pods": "4"}}}"#;
    let with = |strategy| format!("{}\n---\n{quota}\n", manifest(4, &strategy, &json!({})));
    let stopped = told(&ARGUMENTS, &with(rolling(1, 0)));
    assert_eq!(stopped["outcome"], "blocked");
    assert!(stopped["notes"].to_string().contains("quota"), "{}", stopped["notes"]);
    assert_eq!(told(&ARGUMENTS, &with(rolling(0, 1)))["outcome"], "complete");
}

#[test]
fn what_somebody_does_meanwhile_is_played() {
    let manifest = manifest(4, &rolling(2, 1), &json!({}));
    let with = |more: &[&str]| told(&[&ARGUMENTS[..], more].concat(), &manifest);
    assert_eq!(with(&["--new-version", "never-ready"])["outcome"], "deadline");
    let undone = with(&["--new-version", "never-ready", "--at", "10s=undo"]);
    assert_eq!((&undone["outcome"], &undone["min_available"]), (&json!("complete"), &json!(3)));
    let scaled = with(&["--at", "2s=scale:7"]);
    let last = &scaled["steps"].as_array().unwrap().last().unwrap()["sets"];
    assert_eq!(last[1]["ready"], 7, "{last}");
    assert_eq!(with(&["--at", "2s=pause"])["outcome"], "paused");
    let third = with(&["--at", "2s=update"]);
    assert_eq!(third["steps"].as_array().unwrap().last().unwrap()["sets"][2]["ready"], 4);
}

#[test]
fn an_eviction_that_would_break_the_budget_is_refused_and_the_drain_goes_on_later() {
    let budget = r#"{"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "model"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "model"}}}}"#;
    let input = format!("{}\n---\n{budget}\n", manifest(3, &rolling(1, 0), &json!({})));
    let told = told(&[&ARGUMENTS[..], &["--nodes", "2", "--at", "60s=drain:0"]].concat(), &input);
    assert!(told["steps"].to_string().contains("its budget keeps 2 pods, and 2 are ready"), "{}", told["steps"]);
    assert_eq!((&told["outcome"], &told["min_available"]), (&json!("complete"), &json!(2)));
}

#[test]
fn a_load_time_comes_from_the_report_of_a_check() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("check.json");
    fs::write(&path, r#"{"startup_probe": {"measured_seconds": 30.0}}"#).unwrap();
    let told = told(&["-", "--report", path.to_str().unwrap()], &manifest(1, &rolling(1, 0), &json!({})));
    assert!((told["duration_s"].as_f64().unwrap() - 31.0).abs() < 1.0, "{}", told["duration_s"]);
}

#[test]
fn a_start_beyond_its_budget_is_told_of() {
    let told = told(&["-", "--load-time", "75s"], &manifest(1, &rolling(1, 0), &json!({})));
    assert_eq!(told["outcome"], "deadline");
    assert!(told["notes"].to_string().contains("the startup probe gives up"), "{}", told["notes"]);
}

#[test]
fn what_the_picture_cannot_show_is_noted() {
    let bare = json!({"containers": [{"name": "model", "image": "example.com/model:1"}]});
    let scaler = r#"{"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "model"},
        "spec": {"maxReplicas": 5, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "model"}}}"#;
    let notes = told(&["-"], &format!("{}\n---\n{scaler}\n", manifest(1, &rolling(1, 0), &bare)))["notes"].to_string();
    for note in ["no readiness probe", "an autoscaler decides", "taken to last 10 s"] {
        assert!(notes.contains(note), "{note}: {notes}");
    }
}

#[test]
fn mistakes_end_with_2_and_say_what_is_wrong() {
    let good = manifest(3, &rolling(1, 0), &json!({}));
    for (arguments, input, why) in [
        (&["-"][..], "kind: [", "(standard input), line 2"),
        (&["-"], "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n", "there is no Deployment in it"),
        (&["-", "--deployment", "other"], &good, "there are model"),
        (&["-", "--at", "soon=undo"], &good, "soon"),
        (&["-", "--nodes", "2", "--at", "1s=drain:2"], &good, "there are 2 nodes"),
        (&["-", "--report", "/nowhere"], &good, "--report /nowhere"),
        (&["/nowhere.yaml"], "", "/nowhere.yaml"),
    ] {
        let output = plan(arguments, input);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(error.contains(why), "{arguments:?}: {error}");
    }
}

/// Optimised it has to take 5 s at most and 500 MiB; this build has none of that, and shares its machine.
#[test]
fn ten_thousand_pods_on_a_thousand_nodes_are_answered_in_seconds() {
    let begin = Instant::now();
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
    let arguments = [&ARGUMENTS[..], &["--nodes", "1000", "--replicas", "10000"]].concat();
    let told = told(&arguments, &manifest(10, &strategy, &json!({})));
    assert_eq!((&told["outcome"], &told["min_available"]), (&json!("complete"), &json!(7_500)));
    assert!(told["max_pods"].as_i64().unwrap() <= 12_500, "{}", told["max_pods"]);
    assert!(told["notes"].to_string().contains("20 requests a second"), "{}", told["notes"]);
    assert!(begin.elapsed().as_secs() < 60, "{:?}", begin.elapsed());
}
