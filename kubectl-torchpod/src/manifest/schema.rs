//! What an object lacks, which of its values are refused, and what a misspelt field was meant to be, by the JSON schema
//! of its kind.

use serde_json::Value;

use super::node::Node;
use super::path::{Path, Step};
use super::value;

/// How like a name must be to one that exists to be proposed in its place, from 0 to 1.
const ALIKE: f64 = 0.72;

/// The schema of one kind.
pub(super) struct Schema(Value);

/// What a strict look at an object finds, each with its path.
#[derive(Default)]
pub(super) struct Flaws {
    /// Fields that an API server insists on and that are not there, as the path to where they belong.
    pub(super) missing: Vec<Path>,
    /// Values whose type is right, and why they are refused.
    pub(super) refused: Vec<(Path, String)>,
}

/// A part of the schema, with the name that it has there; empty for what has none.
#[derive(Clone, Copy)]
struct Definition<'a> {
    name: &'a str,
    schema: &'a Value,
}

impl Schema {
    pub(super) fn new(root: Value) -> Schema {
        Schema(root)
    }

    pub(super) fn flaws(&self, object: &Node) -> Flaws {
        let mut flaws = Flaws::default();
        if let Some(root) = self.resolved("", &self.0) {
            self.walk(root, object, &Path::default(), &mut flaws);
        }
        flaws
    }

    /// The known name most like the last key of a path.
    pub(super) fn nearest(&self, path: &Path) -> Option<String> {
        let (Step::Key(written), way) = path.0.split_last()? else { return None };
        let parent = way.iter().try_fold(self.resolved("", &self.0)?, |part, step| self.below(part, step))?;
        let names = parent.schema.get("properties")?.as_object()?.keys();
        let alike = |name: &String| strsim::jaro_winkler(&written.to_lowercase(), &name.to_lowercase());
        let nearest = names.map(|name| (alike(name), name)).max_by(|one, other| one.0.total_cmp(&other.0))?;
        (nearest.0 >= ALIKE).then(|| nearest.1.clone())
    }

    fn walk(&self, part: Definition<'_>, node: &Node, path: &Path, flaws: &mut Flaws) {
        let required = part.schema.get("required").and_then(Value::as_array).into_iter().flatten();
        // Only a mapping can lack a field; of anything else, its type says that it is wrong.
        if matches!(node.value, super::node::Value::Map(_)) {
            let absent = required.filter_map(Value::as_str).filter(|name| node.get(name).is_none());
            flaws.missing.extend(absent.map(|name| path.label(name)));
        }
        if part.name.ends_with(".resource.Quantity") {
            flaws.refused.extend(value::no_quantity(node).map(|why| (path.clone(), why)));
        }
        for entry in node.entries() {
            let path = path.label(&entry.key);
            let refused = value::refused(part.name, &entry.key, &entry.node).into_iter();
            flaws.refused.extend(refused.map(|(item, why)| (item.map_or(path.clone(), |item| path.item(item)), why)));
            if let Some(below) = self.below(part, &Step::Key(entry.key.clone())) {
                self.walk(below, &entry.node, &path, flaws);
            }
        }
        if let Some(items) = self.below(part, &Step::Item(0)) {
            for (index, item) in node.items().iter().enumerate() {
                self.walk(items, item, &path.item(index), flaws);
            }
        }
    }

    fn below<'a>(&'a self, part: Definition<'a>, step: &Step) -> Option<Definition<'a>> {
        let below = match step {
            Step::Key(key) => {
                let property = part.schema.get("properties").and_then(|properties| properties.get(key));
                property.or_else(|| part.schema.get("additionalProperties"))?
            }
            Step::Item(_) => part.schema.get("items")?,
        };
        self.resolved("", below)
    }

    /// The definition that a schema refers to: by itself, or as the one part of `allOf` or `anyOf` that does.
    fn resolved<'a>(&'a self, name: &'a str, schema: &'a Value) -> Option<Definition<'a>> {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let name = reference.rsplit('/').next().unwrap_or_default();
            return self.resolved(name, self.0.pointer(reference.strip_prefix('#')?)?);
        }
        let parts = schema.get("allOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array);
        match parts.and_then(|parts| parts.iter().find(|part| part.get("$ref").is_some())) {
            Some(part) => self.resolved(name, part),
            None => Some(Definition { name, schema }),
        }
    }
}
