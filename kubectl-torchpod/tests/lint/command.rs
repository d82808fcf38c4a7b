//! The program as people and CI run it.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const GOOD: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: settings }\n";

const BAD: &str = "\
apiVersion: v1
kind: Pod
metadata: { name: web }
spec:
  containers:
  - name: web
    imagee: web:1
";

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: { name: web }
spec:
  selector: { app: web }
  ports: [{ port: 80, targetPort: web }]
";

const POD: &str = "\
apiVersion: v1
kind: Pod
metadata: { name: web, labels: { app: web } }
spec:
  containers: [{ name: web, image: web:1 }]
";

const KUSTOMIZATION: &str = "\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [pod.yaml]
patches: [{ path: ../patch.yaml }]
";

const PROBED: &str = "\
apiVersion: v1
kind: Pod
metadata: { name: web }
spec:
  containers:
  - name: web
    image: web:1
    startupProbe: { tcpSocket: { port: 80 }, periodSeconds: 1, failureThreshold: 3 }
";

fn lint(args: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-torchpod"));
    command.arg("lint").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that reads no standard input may have ended by now.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A folder with files of these names and texts.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

#[test]
fn the_exit_code_tells_errors_from_warnings_and_from_wrong_flags() {
    assert_eq!(lint(&["-"], GOOD).status.code(), Some(0));
    assert_eq!(lint(&["-"], BAD).status.code(), Some(1));
    let warned = lint(&["-"], &GOOD.replace("ConfigMap", "Endpoints"));
    assert_eq!((warned.status.code(), text(&warned).contains("endpoints-deprecated")), (Some(0), true));
    for wrong in [
        &["no-such-file.yaml"][..],
        &[],
        &["-", "--load-time", "soon"],
        &["-", "--allow", "no-such-rule"],
        &["-", "--kubernetes-version", "2"],
    ] {
        assert_eq!(lint(wrong, GOOD).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn a_misspelt_field_is_shown_with_its_line_a_caret_and_the_nearest_name() {
    let told = text(&lint(&["-"], BAD));
    for part in [
        "error[field-unknown]",
        "(standard input):7:5",
        "    imagee: web:1",
        "^^^^^^",
        "spec.containers[0].imagee",
        "image is the nearest",
        "Pod/web",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
}

#[test]
fn a_folder_is_read_to_its_depths_and_other_files_are_left_alone() {
    let folder = folder(&[("a/b/deep.yaml", BAD), ("a/good.yml", GOOD), ("notes.txt", "{"), (".hidden/bad.yaml", "{")]);
    let told = json(&lint(&[folder.path().to_str().unwrap(), "-o", "json"], ""));
    assert_eq!(
        (told["objects"].as_u64(), told["errors"].as_u64()),
        (Some(2), Some(2)),
        "no image, and a field that is unknown: {told}"
    );
    assert!(told["findings"][0]["file"].as_str().unwrap().ends_with("a/b/deep.yaml"));
}

#[test]
fn a_service_in_one_file_is_matched_with_pods_in_another() {
    let folder = folder(&[("service.yaml", SERVICE), ("pod.yaml", POD)]);
    let told = text(&lint(&[folder.path().to_str().unwrap()], ""));
    assert!(told.contains("service-port-name-unknown"), "{told}");
    assert_eq!(lint(&["-"], SERVICE).status.code(), Some(0), "nothing is known of the pods");
}

#[test]
fn files_that_are_alternatives_are_looked_at_apart() {
    let deployment = include_str!("../../rules/budget-allows-nothing/fails.yaml");
    let (pods, budget) = deployment.split_once("---\n").unwrap();
    let both = folder(&[("pods.yaml", pods), ("budget.yaml", budget)]);
    assert!(text(&lint(&[both.path().to_str().unwrap()], "")).contains("budget-allows-nothing"));
    let other = pods.replace("replicas: 3", "replicas: 5");
    let alternatives = folder(&[("three.yaml", pods), ("five.yaml", &other), ("budget.yaml", budget)]);
    let told = text(&lint(&[alternatives.path().to_str().unwrap()], ""));
    assert!(!told.contains("budget-allows-nothing") && told.contains("info[file-apart]: 2 times"), "{told}");
}

#[test]
fn a_kustomization_s_folder_is_looked_at_apart() {
    let (pods, budget) = include_str!("../../rules/budget-allows-nothing/fails.yaml").split_once("---\n").unwrap();
    let kustomization = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [pods.yaml]\n";
    let files = folder(&[("web/pods.yaml", pods), ("web/kustomization.yaml", kustomization), ("budget.yaml", budget)]);
    assert!(!text(&lint(&[files.path().to_str().unwrap()], "")).contains("budget-allows-nothing"));
}

#[test]
fn kustomizations_and_their_patches_are_skipped_with_a_word() {
    let patch = "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web }\nspec: { replicas: 3 }\n";
    let folder = folder(&[("overlay/kustomization.yaml", KUSTOMIZATION), ("patch.yaml", patch)]);
    let output = lint(&[folder.path().to_str().unwrap()], "");
    let told = text(&output);
    assert_eq!(told.matches("info[kustomize-skipped]").count(), 1, "{told}");
    let place = format!("2 times in {}, first at ", folder.path().display());
    assert!(told.contains(&place) && told.contains("overlay/kustomization.yaml:1: a kustomization: skipped"), "{told}");
    assert_eq!(output.status.code(), Some(0));
    let listed = json(&lint(&[folder.path().to_str().unwrap(), "-o", "json"], ""));
    assert_eq!(listed["findings"].as_array().unwrap().len(), 2, "{listed}");
}

#[test]
fn a_single_kustomization_is_shown_with_its_line() {
    let told = text(&lint(&["-"], KUSTOMIZATION));
    assert!(told.contains("(standard input):1:1") && told.contains("fix: Check what comes out"), "{told}");
}

#[test]
fn a_file_that_is_named_twice_is_read_once() {
    let folder = folder(&[("good.yaml", GOOD)]);
    let (whole, file) = (folder.path(), folder.path().join("good.yaml"));
    let told = text(&lint(&[whole.to_str().unwrap(), file.to_str().unwrap()], ""));
    assert!(told.ends_with("in 1 object\n") && !told.contains("file-apart"), "{told}");
}

#[test]
fn links_to_files_are_read() {
    let (linked, folder) = (folder(&[("bad.yaml", BAD)]), TempDir::new().unwrap());
    std::os::unix::fs::symlink(linked.path().join("bad.yaml"), folder.path().join("link.yaml")).unwrap();
    assert_eq!(lint(&[folder.path().to_str().unwrap()], "").status.code(), Some(1));
}

#[test]
fn nothing_on_standard_input_does_not_pass() {
    let output = lint(&["-"], "\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing on standard input"));
}

#[test]
fn a_report_that_cannot_be_written_is_told_and_one_that_nobody_reads_on_is_not() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-torchpod"));
    command.args(["lint", "--explain"]).stderr(Stdio::piped());
    let full = command.stdout(fs::File::options().write(true).open("/dev/full").unwrap()).output().unwrap();
    assert_eq!(full.status.code(), Some(2), "{full:?}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let left = command.stdout(writer).output().unwrap();
    assert_eq!(left.status.code(), Some(0), "{left:?}");
}

#[test]
fn json_says_where_everything_is() {
    let told = json(&lint(&["-", "-o", "json"], BAD));
    let first = &told["findings"].as_array().unwrap().iter().find(|one| one["rule"] == "field-unknown").unwrap();
    assert_eq!((first["line"].as_u64(), first["column"].as_u64()), (Some(7), Some(5)));
    assert_eq!(
        (first["path"].as_str(), first["severity"].as_str()),
        (Some("spec.containers[0].imagee"), Some("error"))
    );
}

#[test]
fn sarif_has_what_its_schema_requires() {
    let told = json(&lint(&["-", "-o", "sarif"], BAD));
    assert_eq!(told["version"], "2.1.0");
    let run = &told["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!(run["tool"]["driver"]["name"], "kubectl-torchpod");
    let results = run["results"].as_array().unwrap();
    assert!(!results.is_empty());
    for result in results {
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert_eq!(rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()]["id"], result["ruleId"]);
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        let region = &result["locations"][0]["physicalLocation"]["region"];
        assert!(region["startLine"].as_u64().unwrap() >= 1 && region["startColumn"].as_u64().unwrap() >= 1);
        // RFC 3986: no blank and no parenthesis of `(standard input)` stands as it is.
        assert_eq!(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "%28standard%20input%29");
    }
}

#[test]
fn a_rule_can_be_silenced_and_a_level_chosen() {
    let light =
        "apiVersion: v1\nkind: Pod\nmetadata: { name: web }\nspec:\n  containers: [{ name: web, image: web }]\n";
    let all = text(&lint(&["-"], light));
    assert!(all.contains("image-tag-moves") && all.contains("qos-best-effort"), "{all}");
    assert!(!text(&lint(&["-", "--allow", "image-tag-moves"], light)).contains("image-tag-moves"));
    let warnings = text(&lint(&["-", "--level", "warning"], light));
    assert!(warnings.contains("image-tag-moves") && !warnings.contains("qos-best-effort"), "{warnings}");
}

#[test]
fn every_rule_explains_itself() {
    let list = text(&lint(&["--explain"], ""));
    for id in list.lines().map(|line| line.split(' ').next().unwrap()) {
        let page = text(&lint(&["--explain", id], ""));
        assert!(
            page.starts_with(id) && page.contains("Fix: ") && page.contains("Fails:") && page.contains("Passes:"),
            "{page}"
        );
    }
    let unknown = lint(&["--explain", "grace-to-short"], "");
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("grace-too-short is the nearest"));
}

#[test]
fn what_was_measured_is_taken_from_the_flag_or_from_the_report_of_a_check() {
    let report = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/report.json");
    assert!(!text(&lint(&["-"], PROBED)).contains("startup-budget-too-short"));
    assert!(text(&lint(&["-", "--load-time", "45s"], PROBED)).contains("kills after 2 s, and the model takes 45 s"));
    // The report measured 2.4 s.
    assert!(text(&lint(&["-", "--report", report], PROBED)).contains("kills after 2 s, and the model takes 3 s"));
    let failed = folder(&[("report.json", "{\"startup_probe\": null}")]);
    let path = failed.path().join("report.json");
    let refused = lint(&["-", "--report", path.to_str().unwrap()], PROBED);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("a model failed"));
}
