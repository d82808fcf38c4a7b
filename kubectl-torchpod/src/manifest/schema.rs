//! What an object lacks, and what a misspelt field was meant to be, by the JSON schema of its kind.

use serde_json::Value;

use super::node::Node;
use super::path::{Path, Step};

/// How like a name must be to one that exists to be proposed in its place, from 0 to 1.
const ALIKE: f64 = 0.72;

/// The schema of one kind.
pub(super) struct Schema(Value);

impl Schema {
    pub(super) fn new(root: Value) -> Schema {
        Schema(root)
    }

    /// Fields that an API server insists on and that are not there, each as the path to where it belongs.
    pub(super) fn missing(&self, object: &Node) -> Vec<Path> {
        let mut missing = Vec::new();
        self.walk(&self.0, object, &Path::default(), &mut missing);
        missing
    }

    /// The known name most like the last key of a path.
    pub(super) fn nearest(&self, path: &Path) -> Option<String> {
        let (Step::Key(written), way) = path.0.split_last()? else { return None };
        let parent = way.iter().try_fold(self.resolved(&self.0)?, |schema, step| self.below(schema, step))?;
        let names = parent.get("properties")?.as_object()?.keys();
        let alike = |name: &String| strsim::jaro_winkler(&written.to_lowercase(), &name.to_lowercase());
        let nearest = names.map(|name| (alike(name), name)).max_by(|one, other| one.0.total_cmp(&other.0))?;
        (nearest.0 >= ALIKE).then(|| nearest.1.clone())
    }

    fn walk(&self, schema: &Value, node: &Node, path: &Path, missing: &mut Vec<Path>) {
        let Some(schema) = self.resolved(schema) else { return };
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        // Only a mapping can lack a field; of anything else, its type says that it is wrong.
        if matches!(node.value, super::node::Value::Map(_)) {
            let absent = required.filter_map(Value::as_str).filter(|name| node.get(name).is_none());
            missing.extend(absent.map(|name| path.label(name)));
        }
        for entry in node.entries() {
            let step = Step::Key(entry.key.clone());
            if let Some(below) = self.below(schema, &step) {
                self.walk(below, &entry.node, &path.label(&entry.key), missing);
            }
        }
        if let Some(items) = schema.get("items") {
            for (index, item) in node.items().iter().enumerate() {
                self.walk(items, item, &path.item(index), missing);
            }
        }
    }

    fn below<'a>(&'a self, schema: &'a Value, step: &Step) -> Option<&'a Value> {
        let below = match step {
            Step::Key(key) => {
                let property = schema.get("properties").and_then(|properties| properties.get(key));
                property.or_else(|| schema.get("additionalProperties"))?
            }
            Step::Item(_) => schema.get("items")?,
        };
        self.resolved(below)
    }

    /// The definition that a schema refers to: by itself, or as the one part of `allOf` or the one of `anyOf` that is not
    /// null.
    fn resolved<'a>(&'a self, schema: &'a Value) -> Option<&'a Value> {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            return self.resolved(self.0.pointer(reference.strip_prefix('#')?)?);
        }
        let parts = schema.get("allOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array);
        match parts.and_then(|parts| parts.iter().find(|part| part.get("$ref").is_some())) {
            Some(part) => self.resolved(part),
            None => Some(schema),
        }
    }
}
