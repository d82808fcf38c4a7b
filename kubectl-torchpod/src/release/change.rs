//! One change of one Deployment: the only way in which a canary changes anything.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::record::{MOVED, Record};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Stable,
    Canary,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub on: Side,
    /// What it does, for people.
    pub what: String,
    pub replicas: Option<i32>,
    /// The container, and the image that it gets.
    pub image: Option<(String, String)>,
    pub annotations: BTreeMap<&'static str, Option<String>>,
}

impl Change {
    pub(super) fn resize(on: Side, what: String, replicas: i32) -> Change {
        Change { on, what, replicas: Some(replicas), image: None, annotations: BTreeMap::new() }
    }

    /// A change of what is remembered, which is always on the canary.
    pub(super) fn remember(what: String, record: &Record) -> Change {
        Change { on: Side::Canary, what, replicas: None, image: None, annotations: record.annotations() }
    }

    /// The strategic merge patch. With a version it is refused where anybody has changed the Deployment since.
    pub fn body(&self, version: Option<&str>, now: Timestamp) -> Value {
        let mut annotations: Map<String, Value> =
            self.annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        annotations.insert(MOVED.to_owned(), json!(format!("{now:.0}")));
        let mut body = json!({"metadata": {"annotations": annotations}});
        if let Some(version) = version {
            body["metadata"]["resourceVersion"] = json!(version);
        }
        if let Some(replicas) = self.replicas {
            body["spec"]["replicas"] = json!(replicas);
        }
        if let Some((container, image)) = &self.image {
            body["spec"]["template"]["spec"]["containers"] = json!([{"name": container, "image": image}]);
        }
        body
    }
}
