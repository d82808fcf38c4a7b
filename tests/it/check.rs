//! `torchpod check`: what it measures, what it says of what fails, and how it ends.

use std::fs;

use serde_json::{Value, json};

use crate::models::{PACKAGE, Repository, digest_of, forms};
use crate::support::Turn;

/// Exit code, stdout and stderr.
fn check(turn: &Turn, path: &str, flags: &[&str]) -> (Option<i32>, String, String) {
    let mut arguments = vec!["check", path];
    arguments.extend(flags);
    let output = turn.run(&arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_table_tells_what_serving_would_take() {
    let turn = Turn::shared();
    let (code, stdout, stderr) = check(&turn, "models", &[]);
    assert_eq!(code, Some(0), "{stderr}");
    for part in ["digits@1", "image: FP32", "logits: FP32", "row-wise", "yes", " ms", " MiB", "startupProbe:"] {
        assert!(stdout.contains(part), "{part:?} in {stdout}");
    }
    assert!(stdout.contains("failureThreshold: 12  # 12 × 5 s = 60 s: 3 × "), "{stdout}");
}

#[test]
fn json_has_the_same_as_data() {
    let turn = Turn::shared();
    for (repository, file) in forms().iter().zip(["models/digits/1/model.pt", PACKAGE]) {
        let (code, stdout, _) = check(&turn, repository.path(), &["--json"]);
        let report: Value = serde_json::from_str(&stdout).unwrap();
        let digits = &report["models"][0];
        assert_eq!(digits["digest"], digest_of(file));
        assert_eq!(code, Some(0));
        assert_eq!(digits["inputs"], json!([{"name": "image", "dtype": "FP32", "shape": "[-1, 8, 8]"}]));
        assert_eq!(digits["outputs"], json!([{"name": "logits", "dtype": "FP32", "shape": "[-1, 10]"}]));
        assert_eq!((&digits["row_wise"], &digits["problem"]), (&json!(true), &Value::Null));
        let sizes: Vec<&String> = digits["warm_up_p50_seconds"].as_object().unwrap().keys().collect();
        assert_eq!(sizes, ["1", "32", "8"], "in the order of a JSON map");
        for number in [&digits["load_seconds"], &digits["warm_up_seconds"], &digits["memory_bytes"]] {
            assert!(number.as_f64().unwrap() > 0.0, "{digits}");
        }
        assert_eq!(report["startup_probe"]["period_seconds"], 5);
        assert!(report["startup_probe"]["failure_threshold"].as_u64().unwrap() >= 12, "{report}");
    }
}

#[test]
fn what_fails_is_named_and_the_others_are_checked_all_the_same() {
    let turn = Turn::shared();
    let repository = Repository::odd(&["text", "softmax_of_batch", "state_dict", "plain", "row_sum"]);
    let (code, stdout, stderr) = check(&turn, repository.path(), &["--json"]);
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.ends_with("torchpod: 2 of 5 versions cannot be served\n"), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let of = |name: &str| report["models"].as_array().unwrap().iter().find(|row| row["model"] == name).unwrap().clone();
    assert!(of("text")["problem"].as_str().unwrap().contains("returns a value of type str"));
    assert!(of("state_dict")["problem"].as_str().unwrap().contains("a state_dict"));
    let softmax = of("softmax_of_batch");
    assert_eq!(softmax["row_wise"], false);
    assert!(softmax["row_wise_reason"].as_str().unwrap().contains("output of a row changes"), "{softmax}");
    assert_eq!((&of("plain")["row_wise"], &of("plain")["inputs"][0]["dtype"]), (&Value::Null, &json!("any")));
    assert_eq!(of("row_sum")["outputs"][1], json!({"name": "output_1", "dtype": "FP32", "shape": "[-1]"}));
    assert_eq!(report["startup_probe"], Value::Null);

    let (_, stdout, _) = check(&turn, repository.path(), &[]);
    let problem = |line: &str| line.starts_with("text@1 failed in its warm-up: the model returns");
    assert!(stdout.lines().any(problem) && !stdout.contains("startupProbe"), "{stdout}");
}

#[test]
fn what_is_wrong_in_the_folder_is_told_a_line_each() {
    let turn = Turn::shared();
    let repository = Repository::odd(&["row_sum", "list"]);
    fs::write(
        repository.folder("row_sum").join("model.toml"),
        "[[inputs]]\nname = \"x\"\ndtype = \"FP31\"\nshape = [3]\n",
    )
    .unwrap();
    fs::remove_dir_all(repository.folder("list").join("1")).unwrap();
    let (code, _, stderr) = check(&turn, repository.path(), &[]);
    assert_eq!(code, Some(2));
    let wrong = |parts: [&str; 2]| stderr.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(wrong(["dtype = \"FP31\"", "at line 3 in "]), "{stderr}");
    assert!(wrong(["shape = [3]", "at line 4 in "]), "{stderr}");
    assert!(wrong(["/list holds no version", "torchpod: "]), "{stderr}");
    let (code, _, stderr) = check(&turn, repository.path(), &["--jsn"]);
    assert_eq!(code, Some(2));
    assert!(stderr.contains("--jsn") && stderr.contains("`torchpod check --help`"), "{stderr}");
}

#[test]
fn every_version_that_is_wanted_is_checked_by_the_name_it_is_given() {
    let turn = Turn::shared();
    let repository = Repository::odd(&["row_sum"]);
    let folder = repository.folder("row_sum");
    let toml = fs::read_to_string(folder.join("model.toml")).unwrap();
    fs::write(folder.join("model.toml"), format!("versions = \"all\"\n{toml}")).unwrap();
    fs::create_dir(folder.join("3")).unwrap();
    fs::copy(folder.join("1/model.pt"), folder.join("3/model.pt")).unwrap();
    let (code, stdout, stderr) = check(&turn, folder.to_str().unwrap(), &["--model-name", "net", "--json"]);
    assert_eq!(code, Some(0), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let ids: Vec<_> = report["models"].as_array().unwrap().iter().map(|row| (&row["model"], &row["version"])).collect();
    assert_eq!(ids, [(&json!("net"), &json!("1")), (&json!("net"), &json!("3"))]);
}
