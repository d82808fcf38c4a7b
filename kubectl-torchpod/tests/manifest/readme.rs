//! That `k8s/README.md` leaves nothing out: a row for each snippet of the lesson, with a folder and a test that exist.

use std::collections::BTreeSet;
use std::env;
use std::process::Command;

use crate::manifest::{files, read, root};

/// Every YAML snippet of the lesson, in its order, as the table calls it.
const SNIPPETS: [&str; 31] = [
    "Rolling update",
    "Conservative rollout",
    "Aggressive rollout",
    "Blue-green",
    "Canary by replicas",
    "Canary with Flagger",
    "Recreate",
    "Startup, liveness and readiness",
    "TCP socket probe",
    "Exec command probe",
    "gRPC probe",
    "Headless Service and StatefulSet",
    "Session affinity",
    "ExternalName",
    "Service without a selector",
    "Endpoints",
    "Topology keys",
    "QoS Guaranteed",
    "QoS Burstable",
    "QoS BestEffort",
    "ResourceQuota",
    "LimitRange",
    "Hands-on canary",
    "Hands-on Service",
    "Always a readiness probe",
    "Requests and limits",
    "Change cause",
    "Budget by minAvailable",
    "Budget by maxUnavailable",
    "Anti-affinity by host",
    "Anti-affinity by zone",
];

fn page() -> String {
    read("k8s/README.md")
}

/// The rows of the table: snippet, folders, test.
fn rows(page: &str) -> Vec<[&str; 3]> {
    let table = page.split("| snippet | folder | test |").nth(1).expect("the table of snippets");
    let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| "));
    rows.map(|row| {
        let mut cells = row.trim_end_matches(" |").split(" | ");
        std::array::from_fn(|_| cells.next().unwrap_or_else(|| panic!("three cells: {row}")))
    })
    .collect()
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Every test of this binary that runs, by name.
fn tests() -> BTreeSet<String> {
    let listed = |more: &[&str]| {
        let output = Command::new(env::current_exe().unwrap()).arg("--list").args(more).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let names = text.lines().filter_map(|line| line.strip_suffix(": test")?.rsplit("::").next());
        names.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    &listed(&[]) - &listed(&["--ignored"])
}

#[test]
fn the_table_has_every_snippet_of_the_lesson() {
    let page = page();
    let snippets: Vec<_> = rows(&page).iter().map(|[snippet, ..]| *snippet).collect();
    assert_eq!(snippets, SNIPPETS);
}

#[test]
fn every_row_names_folders_and_a_test_that_exist() {
    let (page, tests) = (page(), tests());
    assert!(tests.len() > 40, "the tests were found: {tests:?}");
    for [snippet, folders, test] in rows(&page) {
        assert!(!quoted(folders).is_empty() && !quoted(test).is_empty(), "{snippet}");
        for folder in quoted(folders) {
            assert!(root().join("k8s").join(folder).join("kustomization.yaml").exists(), "{snippet}: {folder}");
        }
        for test in quoted(test) {
            assert!(tests.contains(test), "{snippet}: there is no test {test}");
        }
    }
}

#[test]
fn the_page_tells_of_every_folder() {
    let page = page();
    for path in files("k8s", "/kustomization.yaml") {
        let folder = path.trim_start_matches("k8s/").trim_end_matches("/kustomization.yaml");
        // A strategy's own parts, and the base's, belong to the folder above them.
        let depth = folder.matches('/').count();
        let part = folder.starts_with("base/") || folder.starts_with("tutorial/");
        let part = part || (folder.starts_with("strategies/") && depth > 1);
        assert!(part || page.contains(&format!("`{folder}`")), "k8s/README.md does not tell of {folder}");
    }
}

#[test]
fn every_path_in_its_commands_exists() {
    let page = page();
    let words = page.split(|c: char| c.is_whitespace() || "`'\"()".contains(c));
    let paths: BTreeSet<_> = words.filter(|word| word.starts_with("k8s/")).collect();
    assert!(paths.len() > 10, "paths were found: {paths:?}");
    for path in paths {
        assert!(root().join(path).exists(), "{path}");
    }
}
