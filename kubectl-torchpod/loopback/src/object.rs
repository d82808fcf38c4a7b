//! The cluster's state as the objects of an API: what clients read is made here of what is there (`all`), and what they
//! write goes there (`create`, `replace`, `remove`). No object is kept beside the state that it shows.

mod default;
mod deployment;
mod node;
mod pod;
mod problem;
mod resource;
mod service;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kubectl_torchpod::rollout::End;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::deployment::Deployment;
use crate::history::Key;
use crate::service::Service;
use crate::state::State;
pub(crate) use problem::Problem;
pub(crate) use resource::{Kind, Part, RESOURCES, Resource};

/// Everything there is.
pub(crate) fn all(state: &State) -> Vec<(Key, Value)> {
    let mut found = Vec::new();
    for resource in &RESOURCES {
        let values = match resource.does {
            Kind::Deployment => deployment::all(state),
            Kind::ReplicaSet => deployment::sets(state),
            Kind::Pod => pod::all(state),
            Kind::Service => state.services.iter().map(|service| json_of(&service.object)).collect(),
            Kind::EndpointSlice => service::slices(state),
            Kind::Node => node::all(state),
            Kind::Budget => node::budgets(state),
            Kind::Record => {
                let own = state.records.iter().filter(|(key, _)| key.resource == resource.id);
                found.extend(own.map(|(key, value)| (key.clone(), value.clone())));
                continue;
            }
        };
        for mut value in values {
            value["apiVersion"] = json!(resource.api_version());
            value["kind"] = json!(resource.kind);
            found.push((key(resource, &value), value));
        }
    }
    found
}

pub(crate) fn key(resource: &Resource, value: &Value) -> Key {
    let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default().to_owned();
    let namespace = if resource.namespaced { text("namespace") } else { String::new() };
    Key { resource: resource.id, namespace, name: text("name") }
}

/// Makes an object, and returns it as it is read.
pub(crate) fn create(state: &mut State, value: Value, now: Duration) -> Result<Arc<Value>, Problem> {
    let resource = Resource::of(&value).ok_or(Problem::UnknownKind)?;
    let (key, value) = admit_new(state, resource, value)?;
    match resource.does {
        Kind::Deployment => {
            let mut object = typed(value);
            make(state, &mut object, now, |object: &mut k8s_openapi::api::apps::v1::Deployment| &mut object.metadata);
            object.status = None;
            state.deployments.push(Deployment::new(object, now));
        }
        Kind::Service => {
            let mut object = typed(value);
            make(state, &mut object, now, |object: &mut k8s_openapi::api::core::v1::Service| &mut object.metadata);
            object.status = None;
            state.services.push(Service::new(object));
        }
        Kind::Budget => {
            let mut object = typed(value);
            make(state, &mut object, now, |object: &mut k8s_openapi::api::policy::v1::PodDisruptionBudget| {
                &mut object.metadata
            });
            object.status = None;
            state.budgets.push(object);
        }
        Kind::Record => {
            let mut value = value;
            let mut metadata: ObjectMeta = typed(value["metadata"].take());
            state.make(&mut metadata, now);
            value["metadata"] = json_of(&metadata);
            value["apiVersion"] = json!(resource.api_version());
            value["kind"] = json!(resource.kind);
            state.records.insert(key.clone(), value);
        }
        Kind::ReplicaSet | Kind::Pod | Kind::EndpointSlice | Kind::Node => return Err(Problem::NotAllowed),
    }
    state.note(now, format!("{} {} is made", resource.kind, key.name));
    Ok(read(state, &key).expect("it was just made"))
}

fn make<T>(state: &mut State, object: &mut T, now: Duration, metadata: impl FnOnce(&mut T) -> &mut ObjectMeta) {
    let metadata = metadata(object);
    state.make(metadata, now);
    metadata.generation = Some(1);
}

/// What is there under a name.
pub(crate) fn read(state: &mut State, key: &Key) -> Option<Arc<Value>> {
    state.changed = true;
    state.show();
    state.history.get(key).cloned()
}

/// Whether a new object may be made, and as what.
pub(crate) fn admit_new(state: &mut State, resource: &Resource, mut value: Value) -> Result<(Key, Value), Problem> {
    if !resource.verbs().contains(&"create") {
        return Err(Problem::NotAllowed);
    }
    let metadata = &mut value["metadata"];
    if metadata["name"].as_str().is_none_or(str::is_empty) {
        let Some(prefix) = metadata["generateName"].as_str() else {
            return Err(Problem::invalid(
                resource,
                "",
                "metadata.name: Required value: name or generateName is required",
            ));
        };
        metadata["name"] = json!(format!("{prefix}{}", state.suffix()));
    }
    if resource.namespaced && metadata["namespace"].is_null() {
        metadata["namespace"] = json!("default");
    }
    let key = key(resource, &value);
    state.show();
    if state.history.get(&key).is_some() {
        return Err(Problem::exists(resource, &key.name));
    }
    let home = Key { resource: "/namespaces", namespace: String::new(), name: key.namespace.clone() };
    if resource.namespaced && !state.records.contains_key(&home) {
        return Err(Problem::NotFound { plural: "namespaces".to_owned(), name: key.namespace });
    }
    let value = default::admitted(resource, value, None)?;
    Ok((key, value))
}

/// What becomes of an object that is written anew: names, times and status stay as they were. `value` is to name the
/// version that it was made from, or none.
pub(crate) fn admit(resource: &Resource, before: &Value, mut value: Value) -> Result<Value, Problem> {
    if !resource.verbs().contains(&"update") {
        return Err(Problem::NotAllowed);
    }
    let name = before["metadata"]["name"].as_str().unwrap_or_default();
    let given = value["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    if !given.is_empty() && before["metadata"]["resourceVersion"] != *given {
        return Err(Problem::conflict(resource, name));
    }
    let uid = &value["metadata"]["uid"];
    if !uid.is_null() && *uid != before["metadata"]["uid"] {
        return Err(Problem::conflict(resource, name));
    }
    for field in ["name", "namespace", "uid", "creationTimestamp", "generation", "deletionTimestamp"] {
        value["metadata"][field] = before["metadata"][field].clone();
    }
    default::admitted(resource, value, Some(before))
}

/// Writes an object anew, as `admit` has left it, and returns it as it is read.
pub(crate) fn replace(
    state: &mut State,
    resource: &Resource,
    mut value: Value,
    now: Duration,
) -> Result<Arc<Value>, Problem> {
    let key = key(resource, &value);
    if let Some(metadata) = value["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    match resource.does {
        Kind::Deployment => deployment::replace(state, &key, typed(value), now),
        Kind::Pod => pod::replace(state, resource, &key, &value)?,
        Kind::Node => node::replace(state, &key, &value),
        Kind::Service => {
            let mut object: k8s_openapi::api::core::v1::Service = typed(value);
            object.status = None;
            let known =
                state.services.iter_mut().find(|one| one.namespace() == key.namespace && one.name() == key.name);
            known.expect("it is there").object = object;
        }
        Kind::Budget => node::replace_budget(state, &key, typed(value)),
        Kind::Record => {
            state.records.insert(key.clone(), value);
        }
        Kind::ReplicaSet | Kind::EndpointSlice => return Err(Problem::NotAllowed),
    }
    state.note(now, format!("{} {} is written", resource.kind, key.name));
    Ok(read(state, &key).expect("it was just written"))
}

/// Deletes an object. A pod has its grace, or the one that is given.
pub(crate) fn remove(
    state: &mut State,
    resource: &Resource,
    key: &Key,
    grace: Option<Duration>,
    now: Duration,
) -> Result<(), Problem> {
    if !resource.verbs().contains(&"delete") {
        return Err(Problem::NotAllowed);
    }
    let is_it = |metadata: &ObjectMeta| {
        metadata.namespace.as_ref() == Some(&key.namespace) && metadata.name.as_ref() == Some(&key.name)
    };
    match resource.does {
        Kind::Deployment => {
            let known = state.deployments.iter_mut().find(|one| !one.deleted && is_it(&one.object.metadata));
            known.expect("it is there").deleted = true;
        }
        Kind::Pod => {
            let pod = state.pods.iter().find(|pod| pod.end != End::Finished && is_it(&pod.metadata));
            let id = pod.expect("it is there").id;
            state.delete(id, grace, now);
        }
        Kind::Service => state.services.retain(|one| !is_it(&one.object.metadata)),
        Kind::Budget => state.budgets.retain(|one| !is_it(&one.metadata)),
        _ => {
            state.records.remove(key);
            if resource.id == "/namespaces" {
                empty(state, &key.name, now);
            }
        }
    }
    state.note(now, format!("{} {} is deleted", resource.kind, key.name));
    state.changed = true;
    state.show();
    Ok(())
}

/// All that is in a namespace goes with it.
fn empty(state: &mut State, namespace: &str, now: Duration) {
    state.changed = true;
    state.show();
    for resource in RESOURCES.iter().filter(|one| one.namespaced && one.verbs().contains(&"create")) {
        let inside = state.history.all(resource.id).filter(|(key, _)| key.namespace == namespace);
        let inside: Vec<_> = inside.map(|(key, _)| key.clone()).collect();
        for key in inside {
            remove(state, resource, &key, None, now).expect("what may be made may be deleted");
        }
    }
}

fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("`default::admitted` has read it")
}

pub(crate) fn json_of(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("it is JSON")
}
