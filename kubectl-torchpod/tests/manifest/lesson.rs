//! The lesson's numbers and names, read from what is rendered. One test for each of its snippets; k8s/README.md has a
//! table of them.

mod operation;
mod probe;
mod resource;
mod service;
mod strategy;

use serde_json::Value;

use crate::manifest::Rendered;

/// Holds what an object of a file says against what the lesson says, field by field.
#[track_caller]
pub(crate) fn expect(file: &Rendered, id: &str, fields: &[(&str, Value)]) {
    let object = file.get(id);
    for (path, value) in fields {
        let found = object.pointer(path).unwrap_or(&Value::Null);
        assert_eq!(found, value, "{}: {id}{path}", file.name);
    }
}
