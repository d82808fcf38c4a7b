//! Objects as kubectl prints them: the server says which columns there are.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::request::Asking;
use crate::object::{Kind, Resource};
use crate::state::today;

/// A column: its name, whether it is shown only to those who want more (`-o wide`), and its cell.
type Column = (&'static str, bool, fn(&Value) -> Value);

const DEPLOYMENT: [Column; 6] = [
    ("Ready", false, |one| {
        json!(format!("{}/{}", number(&one["status"]["readyReplicas"]), number(&one["spec"]["replicas"])))
    }),
    ("Up-to-date", false, |one| json!(number(&one["status"]["updatedReplicas"]))),
    ("Available", false, |one| json!(number(&one["status"]["availableReplicas"]))),
    ("Age", false, age),
    ("Containers", true, |one| joined(&one["spec"]["template"]["spec"]["containers"], "name")),
    ("Images", true, |one| joined(&one["spec"]["template"]["spec"]["containers"], "image")),
];

const SET: [Column; 6] = [
    ("Desired", false, |one| json!(number(&one["spec"]["replicas"]))),
    ("Current", false, |one| json!(number(&one["status"]["replicas"]))),
    ("Ready", false, |one| json!(number(&one["status"]["readyReplicas"]))),
    ("Age", false, age),
    ("Containers", true, |one| joined(&one["spec"]["template"]["spec"]["containers"], "name")),
    ("Images", true, |one| joined(&one["spec"]["template"]["spec"]["containers"], "image")),
];

const POD: [Column; 6] = [
    ("Ready", false, |one| json!(format!("{}/1", i32::from(one["status"]["containerStatuses"][0]["ready"] == true)))),
    ("Status", false, reason),
    ("Restarts", false, |one| json!(number(&one["status"]["containerStatuses"][0]["restartCount"]).to_string())),
    ("Age", false, age),
    ("IP", true, |one| one["status"]["podIP"].clone()),
    ("Node", true, |one| one["spec"]["nodeName"].clone()),
];

const SERVICE: [Column; 6] = [
    ("Type", false, |one| one["spec"]["type"].clone()),
    ("Cluster-IP", false, |one| one["spec"]["clusterIP"].clone()),
    ("External-IP", false, |_| json!("<none>")),
    ("Port(s)", false, ports),
    ("Age", false, age),
    ("Selector", true, |one| {
        let pairs = one["spec"]["selector"].as_object().into_iter().flatten();
        json!(
            pairs
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
                .collect::<Vec<_>>()
                .join(",")
        )
    }),
];

const NODE: [Column; 4] = [
    ("Status", false, |one| {
        json!(if one["spec"]["unschedulable"] == true { "Ready,SchedulingDisabled" } else { "Ready" })
    }),
    ("Roles", false, |_| json!("<none>")),
    ("Age", false, age),
    ("Version", false, |one| one["status"]["nodeInfo"]["kubeletVersion"].clone()),
];

const BUDGET: [Column; 4] = [
    ("Min Available", false, |one| given(&one["spec"]["minAvailable"])),
    ("Max Unavailable", false, |one| given(&one["spec"]["maxUnavailable"])),
    ("Allowed Disruptions", false, |one| json!(number(&one["status"]["disruptionsAllowed"]))),
    ("Age", false, age),
];

const OTHER: [Column; 1] = [("Age", false, age)];

fn columns(resource: &Resource) -> &'static [Column] {
    match resource.does {
        Kind::Deployment => &DEPLOYMENT,
        Kind::ReplicaSet => &SET,
        Kind::Pod => &POD,
        Kind::Service => &SERVICE,
        Kind::Node => &NODE,
        Kind::Budget => &BUDGET,
        Kind::EndpointSlice | Kind::Record => &OTHER,
    }
}

pub(super) fn table(resource: &Resource, items: &[&Value], version: &str, asking: &Asking) -> Value {
    let include = asking.query.get("includeObject").map(String::as_str);
    let rows: Vec<_> = items.iter().map(|item| row(resource, item, include)).collect();
    whole(resource, &rows, version)
}

/// A table of one row, as a watch tells it.
pub(super) fn row_alone(resource: &Resource, item: &Value, include: Option<&str>) -> Value {
    let version = item["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    whole(resource, &[row(resource, item, include)], version)
}

fn whole(resource: &Resource, rows: &[Value], version: &str) -> Value {
    let column = |name: &str, wide: bool, format: &str| json!({"name": name, "type": "string", "format": format, "description": "", "priority": i32::from(wide)});
    let name = std::iter::once(column("Name", false, "name"));
    let all = name.chain(columns(resource).iter().map(|(name, wide, _)| column(name, *wide, "")));
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": version},
        "columnDefinitions": all.collect::<Vec<_>>(), "rows": rows,
    })
}

fn row(resource: &Resource, item: &Value, include: Option<&str>) -> Value {
    let name = std::iter::once(item["metadata"]["name"].clone());
    let cells: Vec<_> = name.chain(columns(resource).iter().map(|(_, _, cell)| cell(item))).collect();
    let object = match include {
        Some("Object") => item.clone(),
        Some("None") => Value::Null,
        _ => json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}),
    };
    json!({"cells": cells, "object": object})
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn given(value: &Value) -> Value {
    match value {
        Value::Null => json!("N/A"),
        Value::String(text) => json!(text),
        other => json!(other.to_string()),
    }
}

fn joined(items: &Value, field: &str) -> Value {
    let texts = items.as_array().into_iter().flatten().filter_map(|item| item[field].as_str());
    json!(texts.collect::<Vec<_>>().join(","))
}

fn ports(service: &Value) -> Value {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let port = |one: &Value| format!("{}/{}", number(&one["port"]), one["protocol"].as_str().unwrap_or("TCP"));
    json!(ports.map(port).collect::<Vec<_>>().join(","))
}

/// Why it does not run, or its phase.
fn reason(pod: &Value) -> Value {
    let state = &pod["status"]["containerStatuses"][0]["state"];
    let why = ["waiting", "terminated"].into_iter().find_map(|kind| state[kind]["reason"].as_str());
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        return json!("Terminating");
    }
    why.map_or_else(|| pod["status"]["phase"].clone(), |why| json!(why))
}

fn age(item: &Value) -> Value {
    let made = item["metadata"]["creationTimestamp"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    let Some(made) = made else { return json!("<unknown>") };
    let age = Duration::try_from(today().duration_since(made)).unwrap_or_default().as_secs();
    json!(match age {
        0..120 => format!("{age}s"),
        120..10_800 => format!("{}m", age / 60),
        _ => format!("{}h", age / 3_600),
    })
}
