//! What changes something. A request is read, judged and done under one lock, so that nothing comes between.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, header};
use serde_json::{Value, json};

use super::Serving;
use super::answer::{self, Answer};
use super::patch::Patch;
use super::request::{Asking, Target};
use crate::history::Key;
use crate::object::{self, Kind, Problem, Resource};
use crate::state::State;

pub(super) fn write(serving: &Arc<Serving>, target: &Target, asking: &Asking) -> Result<Answer, Problem> {
    let refused = serving.faults.refuses(&asking.method);
    if let (true, Some(name)) = (refused, &target.name) {
        return Err(Problem::conflict(target.resource, name));
    }
    serving.cluster.change(|state, now| {
        state.show();
        let (status, value) = Write { target, asking, state, now }.done()?;
        Ok(answer::json(status, &value))
    })
}

struct Write<'a> {
    target: &'a Target,
    asking: &'a Asking,
    state: &'a mut State,
    now: Duration,
}

type Done = Result<(u16, Arc<Value>), Problem>;

impl Write<'_> {
    fn done(mut self) -> Done {
        let has_part = self.target.part.as_deref().is_none_or(|part| self.target.has_part(part));
        if !has_part {
            return Err(Problem::UnknownKind);
        }
        match (self.asking.method.as_str(), self.target.part.as_deref()) {
            ("POST", None) if self.target.name.is_none() => self.create(),
            ("POST", Some("eviction")) => self.evict(),
            ("PUT", None) => self.replace(),
            ("PATCH", None) => self.patch(),
            ("PUT" | "PATCH", Some("scale")) => self.scale(),
            // What a status says is computed, and so written by nobody.
            ("PUT" | "PATCH", Some("status")) => Ok((200, self.found()?.1)),
            ("DELETE", None) => self.remove(),
            _ => Err(Problem::NotAllowed),
        }
    }

    fn resource(&self) -> &'static Resource {
        self.target.resource
    }

    fn is_rehearsal(&self) -> bool {
        self.asking.is("dryRun", "All")
    }

    /// The object that is meant.
    fn found(&self) -> Result<(Key, Arc<Value>), Problem> {
        let key = self.target.key()?;
        let found = self.state.history.get(&key).cloned();
        let found = found.ok_or_else(|| Problem::not_found(self.resource(), &key.name))?;
        Ok((key, found))
    }

    fn body(&self) -> Result<Value, Problem> {
        let media =
            self.asking.headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok()).unwrap_or_default();
        if media.contains("protobuf") || media.contains("cbor") {
            return Err(Problem::Media(media.to_owned()));
        }
        let body = &self.asking.body;
        let read = serde_json::from_slice(body).or_else(|error| {
            let text = std::str::from_utf8(body).map_err(|_| error.to_string())?;
            serde_saphyr::from_str(text).map_err(|error| error.to_string())
        });
        read.map_err(|error| Problem::Bad(format!("the body cannot be read: {error}")))
    }

    /// A body that is a whole object: it is of this kind, and of this namespace.
    fn object(&self, mut value: Value) -> Result<Value, Problem> {
        let resource = self.resource();
        for (field, own) in [("apiVersion", resource.api_version()), ("kind", resource.kind.to_owned())] {
            if value[field].is_null() {
                value[field] = json!(own);
            } else if value[field] != *own {
                return Err(Problem::Bad(format!("{field} is {}, and {own} is expected", value[field])));
            }
        }
        for (field, own) in [("namespace", &self.target.namespace), ("name", &self.target.name)] {
            let given = &mut value["metadata"][field];
            match own {
                Some(own) if given.is_null() => *given = json!(own),
                Some(own) if given != own => {
                    return Err(Problem::Bad(format!(
                        "the {field} of the object ({given}) is not that of the request ({own})"
                    )));
                }
                _ => {}
            }
        }
        Ok(value)
    }

    /// Refuses fields that are in no schema, where the client asks for that.
    fn check_fields(&self, value: &Value) -> Result<(), Problem> {
        if !self.asking.is("fieldValidation", "Strict") {
            return Ok(());
        }
        let shaped = self.resource().shaped(value.clone()).map_err(Problem::Bad)?;
        let mut lost = Vec::new();
        find_lost(value, &shaped, "", &mut lost);
        if lost.is_empty() {
            return Ok(());
        }
        let lost: Vec<_> = lost.iter().map(|path| format!("unknown field \"{path}\"")).collect();
        let resource = self.resource();
        Err(Problem::Bad(format!(
            "{kind} in version \"{}\" cannot be handled as a {kind}: strict decoding error: {}",
            resource.version,
            lost.join(", "),
            kind = resource.kind
        )))
    }

    fn create(&mut self) -> Done {
        let value = self.object(self.body()?)?;
        self.check_fields(&value)?;
        if self.is_rehearsal() {
            let (_, value) = object::admit_new(self.state, self.resource(), value)?;
            return Ok((201, Arc::new(value)));
        }
        Ok((201, object::create(self.state, value, self.now)?))
    }

    fn replace(&mut self) -> Done {
        let (_, before) = self.found()?;
        let value = self.object(self.body()?)?;
        let resource = self.resource();
        if resource.kind == "Lease" && value["metadata"]["resourceVersion"].is_null() {
            let why = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
            return Err(Problem::invalid(resource, before["metadata"]["name"].as_str().unwrap_or_default(), why));
        }
        self.check_fields(&value)?;
        self.put(&before, value)
    }

    fn put(&mut self, before: &Value, value: Value) -> Done {
        let mut value = object::admit(self.resource(), before, value)?;
        if self.is_rehearsal() {
            if !before["status"].is_null() {
                value["status"] = before["status"].clone();
            }
            return Ok((200, Arc::new(value)));
        }
        Ok((200, object::replace(self.state, self.resource(), value, self.now)?))
    }

    fn patched(&self, of: &Value) -> Result<Value, Problem> {
        let mut value = of.clone();
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let kind = self.kind_of_patch()?;
        kind.apply(&mut value, self.body()?).map_err(|why| Problem::invalid(self.resource(), &name, why))?;
        Ok(value)
    }

    fn kind_of_patch(&self) -> Result<Patch, Problem> {
        let media = self.asking.headers.get(header::CONTENT_TYPE).and_then(|media| media.to_str().ok());
        Patch::of(media.unwrap_or_default())
    }

    fn patch(&mut self) -> Done {
        if self.kind_of_patch()? == Patch::Apply && self.found().is_err() {
            return self.create();
        }
        let (_, before) = self.found()?;
        let value = self.object(self.patched(&before)?)?;
        self.check_fields(&value)?;
        self.put(&before, value)
    }

    fn scale(&mut self) -> Done {
        let (_, before) = self.found()?;
        let scale = if self.asking.method == Method::PUT { self.body()? } else { self.patched(&scale_of(&before))? };
        let mut value = (*before).clone();
        value["metadata"]["resourceVersion"] = scale["metadata"]["resourceVersion"].clone();
        value["spec"]["replicas"] = json!(scale["spec"]["replicas"].as_i64().unwrap_or(0));
        let (status, value) = self.put(&before, value)?;
        Ok((status, Arc::new(scale_of(&value))))
    }

    fn remove(&mut self) -> Done {
        let (key, found) = self.found()?;
        let options = if self.asking.body.is_empty() { json!({}) } else { self.body()? };
        let conditions = &options["preconditions"];
        for field in ["uid", "resourceVersion"] {
            if !conditions[field].is_null() && conditions[field] != found["metadata"][field] {
                return Err(Problem::conflict(self.resource(), &key.name));
            }
        }
        let asked = self.asking.query.get("gracePeriodSeconds").and_then(|seconds| seconds.parse().ok());
        let grace = options["gracePeriodSeconds"].as_u64().or(asked).map(Duration::from_secs);
        if !self.is_rehearsal() {
            object::remove(self.state, self.resource(), &key, grace, self.now)?;
        }
        if self.resource().does == Kind::Pod {
            // It is still there, and ending.
            return Ok((200, self.state.history.get(&key).cloned().unwrap_or(found)));
        }
        let details = json!({"name": key.name, "kind": self.resource().plural(), "uid": found["metadata"]["uid"]});
        Ok((
            200,
            Arc::new(json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
            })),
        ))
    }

    fn evict(&mut self) -> Done {
        let (key, _) = self.found()?;
        let id = self.state.pod_named(&key.namespace, &key.name).expect("it was found").id;
        if !self.is_rehearsal() {
            self.state.evict(id, self.now).map_err(|refused| Problem::Budget {
                cause: format!(
                    "The disruption budget {} needs {} healthy pods and has {} currently",
                    refused.budget, refused.least, refused.healthy
                ),
            })?;
        }
        Ok((
            201,
            Arc::new(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})),
        ))
    }
}

/// A Deployment's part `scale`.
pub(super) fn scale_of(deployment: &Value) -> Value {
    let of = |field: &str| deployment["metadata"][field].clone();
    let labels = deployment["spec"]["selector"]["matchLabels"].as_object();
    let selector: Vec<_> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": of("name"), "namespace": of("namespace"), "uid": of("uid"), "resourceVersion": of("resourceVersion"),
            "creationTimestamp": of("creationTimestamp"),
        },
        "spec": {"replicas": deployment["spec"]["replicas"]},
        "status": {
            "replicas": deployment["status"]["replicas"].as_i64().unwrap_or(0), "selector": selector.join(","),
        },
    })
}

/// The paths of what is in one and not in the other, nulls aside.
fn find_lost(value: &Value, shaped: &Value, path: &str, lost: &mut Vec<String>) {
    match (value, shaped) {
        (Value::Object(fields), Value::Object(known)) => {
            for (key, inner) in fields.iter().filter(|(_, inner)| !inner.is_null()) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match known.get(key) {
                    Some(known) => find_lost(inner, known, &path, lost),
                    None => lost.push(path),
                }
            }
        }
        (Value::Array(items), Value::Array(known)) => {
            for (index, (item, known)) in items.iter().zip(known).enumerate() {
                find_lost(item, known, &format!("{path}[{index}]"), lost);
            }
        }
        _ => {}
    }
}
