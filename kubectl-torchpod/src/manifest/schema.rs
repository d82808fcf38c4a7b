//! What a strict API server would say of an object by the JSON schema of its kind: fields that there are not, fields that
//! are missing, values of another type or refused ones. The schema and not the Rust type is asked, since a type reads a missing field as
//! its default, and since code for every field of every kind takes minutes to compile.

use serde_json::Value as Json;

use super::Problem;
use super::node::{Node, Value};
use super::path::{Path, Step};
use super::value;

/// How like a name must be to one that exists to be proposed in its place, from 0 to 1.
const ALIKE: f64 = 0.72;

/// The schema of one kind.
pub(super) struct Schema(Json);

/// A part of the schema, with the name that it has there; empty for what has none.
#[derive(Clone, Copy)]
struct Definition<'a> {
    name: &'a str,
    schema: &'a Json,
}

impl Schema {
    pub(super) fn new(root: Json) -> Schema {
        Schema(root)
    }

    /// Everything that does not fit, with its path.
    pub(super) fn check(&self, object: &Node) -> Vec<(Path, Problem)> {
        let mut found = Vec::new();
        self.walk(&self.0, object, &Path::default(), &mut found);
        found
    }

    fn walk(&self, schema: &Json, node: &Node, path: &Path, found: &mut Vec<(Path, Problem)>) {
        let part = self.resolved("", schema);
        // Null is the same as nothing.
        if matches!(node.value, Value::Null) {
            return;
        }
        if let Some(why) = misfit(part.schema, &node.value) {
            return found.push((path.clone(), Problem::Wrong { path: path.clone(), why }));
        }
        if part.name.ends_with(".resource.Quantity") {
            found.extend(value::no_quantity(node).map(|why| refused(path.clone(), why)));
        }
        self.walk_fields(part, node, path, found);
        if let Some(items) = part.schema.get("items") {
            for (index, item) in node.items().iter().enumerate() {
                self.walk(items, item, &path.item(index), found);
            }
        }
    }

    fn walk_fields(&self, part: Definition<'_>, node: &Node, path: &Path, found: &mut Vec<(Path, Problem)>) {
        if !matches!(node.value, Value::Map(_)) {
            return;
        }
        let Definition { name, schema } = part;
        let required = schema.get("required").and_then(Json::as_array).into_iter().flatten();
        for name in required.filter_map(Json::as_str).filter(|name| node.get(name).is_none()) {
            let path = path.label(name);
            found.push((path.clone(), Problem::Missing(path)));
        }
        let (properties, additional) = (schema.get("properties"), schema.get("additionalProperties"));
        for entry in node.entries() {
            let below = path.label(&entry.key);
            let these = value::refused(name, &entry.key, &entry.node).into_iter();
            found.extend(these.map(|(item, why)| refused(item.map_or(below.clone(), |item| below.item(item)), why)));
            let property = properties.and_then(|properties| properties.get(&entry.key));
            match (property.or(additional), properties) {
                (Some(property), _) => self.walk(property, &entry.node, &below, found),
                (None, Some(properties)) => {
                    let problem = Problem::Unknown { path: below.clone(), nearest: nearest(properties, &entry.key) };
                    found.push((below, problem));
                }
                // An object of which nothing is known may hold anything.
                (None, None) => {}
            }
        }
    }

    /// The definition that a schema refers to: by itself, or as the one part of `allOf` or `anyOf` that does.
    fn resolved<'a>(&'a self, name: &'a str, schema: &'a Json) -> Definition<'a> {
        let parts = schema.get("allOf").or_else(|| schema.get("anyOf")).and_then(Json::as_array);
        let part = parts.and_then(|parts| parts.iter().find(|part| part.get("$ref").is_some()));
        let reference = part.unwrap_or(schema).get("$ref").and_then(Json::as_str);
        let found = reference.and_then(|reference| Some((reference, self.0.pointer(reference.strip_prefix('#')?)?)));
        found.map_or(Definition { name, schema }, |(reference, definition)| {
            self.resolved(reference.rsplit('/').next().unwrap_or_default(), definition)
        })
    }
}

fn refused(path: Path, why: String) -> (Path, Problem) {
    (path.clone(), Problem::Refused { path, why })
}

/// The known name most like a written one.
fn nearest(properties: &Json, written: &str) -> Option<String> {
    let written = written.to_lowercase();
    let names = properties.as_object()?.keys();
    let alike = names.map(|name| (strsim::jaro_winkler(&written, &name.to_lowercase()), name));
    let nearest = alike.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (nearest.0 >= ALIKE).then(|| nearest.1.clone())
}

/// Why a value is not what a schema wants. None, where it is, or where the schema wants nothing in particular.
fn misfit(schema: &Json, value: &Value) -> Option<String> {
    let scalar = matches!(value, Value::Number(_) | Value::Text(_));
    if schema.get("x-kubernetes-int-or-string").is_some() {
        return (!scalar).then(|| format!("a number or a text is wanted, not {}", described(value)));
    }
    let wanted: Vec<&str> = match schema.get("type")? {
        Json::Array(types) => types.iter().filter_map(Json::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let small = schema.get("format").and_then(Json::as_str) == Some("int32");
    // Only a schema that says what is in it means an object; any JSON is written so, too.
    let open = ["properties", "additionalProperties"].iter().all(|key| schema.get(key).is_none());
    let fits = |kind: &&str| match (*kind, value) {
        ("string", Value::Text(_))
        | ("boolean", Value::Bool(_))
        | ("number", Value::Number(_))
        | ("array", Value::Seq(_))
        | ("object", Value::Map(_)) => true,
        ("integer", Value::Number(number)) => {
            number.as_i64().is_some_and(|number| !small || i32::try_from(number).is_ok())
        }
        ("object", _) => open,
        _ => false,
    };
    if wanted.iter().any(fits) {
        return None;
    }
    let quote =
        if wanted.contains(&"string") && !matches!(value, Value::Seq(_) | Value::Map(_)) { ": quote it" } else { "" };
    let wanted = wanted.iter().filter(|kind| **kind != "null").map(|kind| named(kind)).collect::<Vec<_>>().join(" or ");
    Some(format!("{wanted} is wanted, not {}{quote}", described(value)))
}

fn named(kind: &str) -> &'static str {
    match kind {
        "string" => "a text",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        "array" => "a list",
        _ => "a mapping",
    }
}

fn described(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => format!("the number {number}"),
        Value::Text(text) => format!("the text {text:?}"),
        Value::Seq(_) => "a list".to_owned(),
        Value::Map(_) => "a mapping".to_owned(),
    }
}

/// Takes wrong values out of an object, each with the field that it is in, so that everything else can still be read.
pub(super) fn without<'a>(mut object: Json, wrong: impl Iterator<Item = &'a Path>) -> Json {
    for path in wrong {
        let field = path.0.iter().rposition(|step| matches!(step, Step::Key(_)));
        let Some((Step::Key(key), way)) = field.and_then(|last| path.0[..=last].split_last()) else { continue };
        let parent = way.iter().try_fold(&mut object, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Item(index) => value.get_mut(index),
        });
        if let Some(Json::Object(fields)) = parent {
            fields.remove(key);
        }
    }
    object
}
