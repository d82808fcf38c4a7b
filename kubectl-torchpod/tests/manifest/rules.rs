//! Recording rules and alerts: promtool, which comes with Prometheus, plays troubles and a good day (`rules.yaml`).

use std::fs;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::manifest::{list, parse, read, rendered, text};

fn groups() -> Value {
    rendered("component-monitoring").get("PrometheusRule/ml-model")["spec"].clone()
}

fn rules() -> Vec<Value> {
    list(&groups()["groups"]).iter().flat_map(|group| list(&group["rules"]).to_vec()).collect()
}

/// Whether promtool is content with the rules and with what is played on them, and what it says.
fn promtool(groups: &Value) -> (bool, String) {
    let folder = TempDir::new().unwrap();
    // YAML takes JSON.
    fs::write(folder.path().join("rules.yml"), groups.to_string()).unwrap();
    fs::write(folder.path().join("tests.yaml"), read("kubectl-torchpod/tests/manifest/rules.yaml")).unwrap();
    let run = |arguments: [&str; 3]| {
        let output = Command::new("promtool").args(arguments).current_dir(folder.path()).output();
        let output =
            output.expect("promtool is installed: `make test-servers` does it, as a part of Debian's prometheus");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    };
    let (checked, tested) = (run(["check", "rules", "rules.yml"]), run(["test", "rules", "tests.yaml"]));
    (checked.0 && tested.0, checked.1 + &tested.1)
}

#[test]
fn each_alert_fires_on_its_trouble_and_none_on_a_good_day() {
    let (passes, said) = promtool(&groups());
    assert!(passes, "{said}");
    let played = parse(&read("kubectl-torchpod/tests/manifest/rules.yaml"));
    let played = list(&played[0]["tests"]).iter().flat_map(|test| list(&test["alert_rule_test"]));
    let (fires, rests): (Vec<_>, Vec<_>) = played.partition(|alert| alert["exp_alerts"].is_array());
    for rule in rules().iter().filter(|rule| rule["alert"].is_string()) {
        for kind in [&fires, &rests] {
            let count = kind.iter().filter(|alert| alert["alertname"] == rule["alert"]).count();
            assert_eq!(count, 1, "{}", rule["alert"]);
        }
    }
}

#[test]
fn another_threshold_is_noticed() {
    let wrong = groups().to_string().replace("share5m > 0.01", "share5m > 0.03");
    let (passes, said) = promtool(&serde_json::from_str(&wrong).unwrap());
    assert!(!passes && said.contains("TorchpodErrors"), "{said}");
}

#[test]
fn the_rules_use_metrics_that_are_documented_and_what_they_record() {
    let (page, rules) = (read("docs/metrics.md"), rules());
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || "_:".contains(letter);
    for rule in &rules {
        let used = text(&rule["expr"]).split(|letter| !is_name(letter)).filter(|word| word.starts_with("torchpod"));
        for metric in used {
            let recorded = rules.iter().any(|other| other["record"] == *metric);
            let documented = page.contains(&format!("`{}`", metric.trim_end_matches("_bucket")));
            assert!(recorded || documented, "{metric}, which {rule} uses");
        }
    }
}
