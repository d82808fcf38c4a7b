//! The dashboard as Grafana reads it. Whether its queries have answers, a real Prometheus says in the server's own tests.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::manifest::{id, list, read, rendered, text, tool, walk};

const FILE: &str = "k8s/components/monitoring/dashboard.json";

/// What `kubectl apply` may keep of an object in its annotation: all of them together may have 256 KiB.
const APPLIED: usize = 256 << 10;

fn dashboard() -> Value {
    serde_json::from_str(&read(FILE)).expect("it is JSON")
}

/// Every panel and row, those in rows as well.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let top = list(&dashboard["panels"]).iter();
    top.flat_map(|panel| std::iter::once(panel).chain(list(&panel["panels"]))).collect()
}

fn is_row(panel: &Value) -> bool {
    panel["type"] == "row"
}

/// The fields that Grafana's own library does not know, where `text` is the dashboard.
fn unknown(text: &str) -> String {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("dashboard.json");
    fs::write(&path, text).unwrap();
    let mut check = tool("python");
    let output = check.args(["-B", "kubectl-torchpod/tests/manifest/dashboard.py"]).arg(path).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn grafanas_own_library_knows_every_field() {
    assert_eq!(unknown(&read(FILE)), "");
}

#[test]
fn a_misspelt_field_of_the_dashboard_is_found() {
    for (right, wrong) in [
        ("gridPos", "gridPosition"),
        ("legendFormat", "legend"),
        ("allValue", "allValues"),
        ("colorMode", "colourMode"),
    ] {
        let said = unknown(&read(FILE).replace(&format!("\"{right}\""), &format!("\"{wrong}\"")));
        assert!(said.lines().all(|line| line.ends_with(wrong)) && !said.is_empty(), "{wrong}: {said}");
    }
}

#[test]
fn the_sidecar_finds_the_dashboard_under_one_name_and_apply_can_keep_it() {
    let file = rendered("component-monitoring");
    let map = file.get("ConfigMap/torchpod-dashboard");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    assert_eq!(map["metadata"]["annotations"]["grafana_folder"], "torchpod");
    assert_eq!(map["data"].as_object().map(Map::len), Some(1));
    let shipped: Value = serde_json::from_str(text(&map["data"]["torchpod.json"])).unwrap();
    assert!(shipped == dashboard(), "run `make manifests`");
    let applied = map.to_string().len();
    assert!(applied < APPLIED * 3 / 4, "{} takes {applied} bytes in an annotation", id(map));
}

#[test]
fn every_panel_has_an_id_and_a_place_of_its_own() {
    let dashboard = dashboard();
    let panels = panels(&dashboard);
    assert!(panels.len() > 40, "the panels were found");
    let ids: BTreeSet<u64> = panels.iter().filter_map(|panel| panel["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());

    let mut taken = BTreeSet::new();
    for panel in panels {
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().expect("a number"));
        assert!(w > 0 && h > 0 && x + w <= 24, "{} is on the page", panel["title"]);
        for cell in (y..y + h).flat_map(|y| (x..x + w).map(move |x| (x, y))) {
            assert!(taken.insert(cell), "{} has {cell:?} to itself", panel["title"]);
        }
    }
}

#[test]
fn every_query_asks_the_data_source_that_was_chosen() {
    let dashboard = dashboard();
    let queries = walk(&dashboard).into_iter().filter(|map| map.contains_key("expr"));
    let variables = list(&dashboard["templating"]["list"]).iter().filter(|one| one["type"] == "query");
    let askers: Vec<_> = queries.chain(variables.filter_map(Value::as_object)).collect();
    assert!(askers.len() > 50, "the queries were found");
    for asker in askers {
        let source = (&asker["datasource"]["type"], &asker["datasource"]["uid"]);
        assert_eq!(source, (&"prometheus".into(), &"${datasource}".into()), "{asker:?}");
    }
}

/// The variables in `text`: of `$name` and `${name}`, the name.
fn used(text: &str) -> BTreeSet<&str> {
    let ends = |rest: &str| rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let names = text.split('$').skip(1).map(|rest| rest.trim_start_matches('{'));
    names.map(|rest| &rest[..ends(rest)]).collect()
}

#[test]
fn every_variable_is_defined_and_every_query_heeds_what_was_chosen() {
    let (dashboard, file) = (dashboard(), read(FILE));
    let mut used = used(&file);
    used.retain(|name| !name.starts_with("__")); // Grafana's own, such as $__rate_interval.
    let variables = list(&dashboard["templating"]["list"]);
    let defined: BTreeSet<_> = variables.iter().map(|variable| text(&variable["name"])).collect();
    assert_eq!(used, defined);

    for panel in panels(&dashboard) {
        for query in list(&panel["targets"]) {
            let chosen = ["$namespace", "$track", "$pod"].iter().all(|name| text(&query["expr"]).contains(name));
            assert!(chosen, "{} asks pods that nobody chose: {query}", panel["title"]);
        }
    }
}

#[test]
fn every_panel_says_what_it_shows_and_what_to_do_and_in_which_unit() {
    let dashboard = dashboard();
    let panels = panels(&dashboard);
    for panel in panels.into_iter().filter(|panel| !is_row(panel)) {
        let says = panel["description"].as_str().unwrap_or_default();
        assert!(says.split_whitespace().count() > 8, "{}: {says:?}", panel["title"]);
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{}", panel["title"]);
        assert!(!list(&panel["targets"]).is_empty(), "{}", panel["title"]);
    }
}

#[test]
fn what_a_gpu_needs_stands_in_a_row_that_is_closed() {
    let dashboard = dashboard();
    for row in list(&dashboard["panels"]) {
        let asks = row["targets"].to_string().contains("torchpod_gpu_");
        assert!(!asks, "{} is seen where there is no GPU", row["title"]);
        let inside = list(&row["panels"]);
        assert_eq!(row["collapsed"] == true, !inside.is_empty(), "{}", row["title"]);
    }
    let asked =
        panels(&dashboard).iter().filter(|panel| panel["targets"].to_string().contains("torchpod_gpu_")).count();
    assert_eq!(asked, 4);
}
