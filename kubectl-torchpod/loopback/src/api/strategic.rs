//! Strategic merge patches: lists of objects that have a name are merged by it.

use serde_json::{Map, Value};

/// Merges a patch into an object.
pub(super) fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    match patch.get("$patch").and_then(Value::as_str) {
        Some("replace") => {
            *target = Value::Object(patch.into_iter().filter(|(key, _)| !key.starts_with('$')).collect());
            return;
        }
        Some("delete") => {
            *target = Value::Null;
            return;
        }
        _ => {}
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let fields = target.as_object_mut().expect("it is one");
    if let Some(kept) = patch.get("$retainKeys").and_then(Value::as_array) {
        fields.retain(|key, _| kept.iter().any(|one| one == key));
    }
    let mut orders = Vec::new();
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(list), Some(gone)) = (fields.get_mut(field).and_then(Value::as_array_mut), value.as_array()) {
                list.retain(|one| !gone.contains(one));
            }
        } else if let Some(field) = key.strip_prefix("$setElementOrder/") {
            orders.push((field.to_owned(), value));
        } else if key.starts_with('$') {
        } else if value.is_null() {
            fields.remove(&key);
        } else if let Value::Array(items) = value {
            let list = fields.entry(key.clone()).or_insert_with(|| Value::Array(Vec::new()));
            merge_list(&key, list, items);
        } else if value.is_object() {
            let inner = fields.entry(key.clone()).or_insert(Value::Null);
            merge(inner, value);
            if inner.is_null() {
                fields.remove(&key);
            }
        } else {
            fields.insert(key, value);
        }
    }
    for (field, order) in orders {
        if let (Some(list), Some(order)) = (fields.get_mut(&field).and_then(Value::as_array_mut), order.as_array()) {
            sort(&field, list, order);
        }
    }
}

/// By which of its fields an item of a list is known, as Kubernetes' types say it.
fn name_of(field: &str, items: &[Value]) -> Option<&'static str> {
    Some(match field {
        "containers" | "initContainers" | "ephemeralContainers" | "volumes" | "env" | "imagePullSecrets" => "name",
        "ports" if items.iter().any(|item| item.get("containerPort").is_some()) => "containerPort",
        "ports" => "port",
        "volumeMounts" => "mountPath",
        "volumeDevices" => "devicePath",
        "hostAliases" => "ip",
        "topologySpreadConstraints" => "topologyKey",
        "conditions" | "addresses" => "type",
        "ownerReferences" => "uid",
        _ => return None,
    })
}

fn merge_list(field: &str, target: &mut Value, items: Vec<Value>) {
    if !target.is_array() {
        *target = Value::Array(Vec::new());
    }
    let list = target.as_array_mut().expect("it is one");
    let directive = |item: &Value| item.get("$patch").and_then(Value::as_str).map(str::to_owned);
    if items.iter().any(|item| directive(item).as_deref() == Some("replace")) {
        *list = items.into_iter().filter(|item| directive(item).is_none()).collect();
        return;
    }
    let Some(name) = name_of(field, &items) else {
        if field == "finalizers" {
            let new: Vec<_> = items.into_iter().filter(|item| !list.contains(item)).collect();
            list.extend(new);
        } else {
            *list = items;
        }
        return;
    };
    for item in items {
        let known = list.iter().position(|one| one.get(name) == item.get(name));
        match (known, directive(&item).as_deref()) {
            (Some(place), Some("delete")) => {
                list.remove(place);
            }
            (None, Some("delete")) => {}
            (Some(place), _) => merge(&mut list[place], item),
            (None, _) => {
                let mut new = Value::Null;
                merge(&mut new, item);
                list.push(new);
            }
        }
    }
}

/// Puts a list into an order in which some of its items are named; the others stay behind those they followed.
fn sort(field: &str, list: &mut [Value], order: &[Value]) {
    let name = name_of(field, order);
    let named = |item: &Value| match name {
        Some(name) => order.iter().position(|one| one.get(name) == item.get(name)),
        None => order.iter().position(|one| one == item),
    };
    let mut rank = 0;
    let mut ranks: Vec<usize> = Vec::new();
    for item in list.iter() {
        rank = named(item).unwrap_or(rank);
        ranks.push(rank);
    }
    let mut ranked: Vec<_> = ranks.into_iter().zip(list.to_vec()).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    for (place, (_, item)) in list.iter_mut().zip(ranked) {
        *place = item;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_merged_by_name_and_directives_are_obeyed() {
        for (mut target, patch, merged) in [
            (
                json!({"containers": [{"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}]}),
                json!({"containers": [{"name": "a", "image": "2"}, {"name": "b", "image": "1"}]}),
                json!({"containers": [{"name": "a", "image": "2", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "1"}]}),
            ),
            (json!({"a": 1, "b": {"c": 1, "d": 2}}), json!({"a": null, "b": {"c": null}}), json!({"b": {"d": 2}})),
            (
                json!({"env": [{"name": "X"}, {"name": "Y"}]}),
                json!({"env": [{"$patch": "delete", "name": "X"}, {"name": "Z"}], "$setElementOrder/env": [{"name": "Z"}, {"name": "Y"}]}),
                json!({"env": [{"name": "Z"}, {"name": "Y"}]}),
            ),
            (
                json!({"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}),
                json!({"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}),
                json!({"strategy": {"type": "Recreate"}}),
            ),
            (json!({"args": ["a", "b"]}), json!({"args": ["c"]}), json!({"args": ["c"]})),
            (json!({"x": {"a": 1}}), json!({"x": {"$patch": "replace", "b": 2}}), json!({"x": {"b": 2}})),
            (
                json!({"ports": [{"port": 80, "name": "h"}]}),
                json!({"ports": [{"port": 80, "targetPort": 1}]}),
                json!({"ports": [{"port": 80, "name": "h", "targetPort": 1}]}),
            ),
            (
                json!({"finalizers": ["a", "b"]}),
                json!({"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["c"]}),
                json!({"finalizers": ["b", "c"]}),
            ),
        ] {
            let before = target.clone();
            merge(&mut target, patch.clone());
            assert_eq!(target, merged, "{before} with {patch}");
        }
    }
}
