//! JSON to a typed object, strictly: what the type does not know, and what it cannot hold, is noted with its path.

use std::any::Any;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use super::path::{Path, Step};

/// An object with this many wrong values is not worth more.
const WRONG: usize = 20;

/// What became of an object.
pub(super) struct Read {
    /// None, where too much is wrong with it.
    pub(super) typed: Option<Box<dyn Any + Send + Sync>>,
    pub(super) unknown: Vec<Path>,
    /// A value that does not fit, and what its type says of it.
    pub(super) wrong: Vec<(Path, String)>,
}

/// Values that do not fit are noted and left out, so that everything else can still be looked at.
pub(super) fn typed<T: DeserializeOwned + Any + Send + Sync>(mut value: Value) -> Read {
    let mut wrong = Vec::new();
    loop {
        let mut unknown = Vec::new();
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(&value, &mut track);
        let read: Result<T, _> = serde_ignored::deserialize(tracked, |path| unknown.push(ignored(&path)));
        let error = match read {
            Ok(typed) => return Read { typed: Some(Box::new(typed)), unknown, wrong },
            Err(error) => error.to_string(),
        };
        let path = tracked_path(&track.path());
        let removed = remove(&mut value, &path);
        wrong.push((path, error));
        if !removed || wrong.len() == WRONG {
            return Read { typed: None, unknown: Vec::new(), wrong };
        }
    }
}

fn ignored(path: &serde_ignored::Path<'_>) -> Path {
    let mut steps = Vec::new();
    let mut at = path;
    loop {
        at = match at {
            serde_ignored::Path::Root => break,
            serde_ignored::Path::Seq { parent, index } => {
                steps.push(Step::Item(*index));
                parent
            }
            serde_ignored::Path::Map { parent, key } => {
                steps.push(Step::Key(key.clone()));
                parent
            }
            serde_ignored::Path::Some { parent }
            | serde_ignored::Path::NewtypeStruct { parent }
            | serde_ignored::Path::NewtypeVariant { parent } => parent,
        };
    }
    steps.reverse();
    Path(steps)
}

fn tracked_path(path: &serde_path_to_error::Path) -> Path {
    let steps = path.iter().filter_map(|segment| match segment {
        Segment::Seq { index } => Some(Step::Item(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    });
    Path(steps.collect())
}

/// Takes out what the path leads to; false, where it leads nowhere. An item of a list becomes null, since the others keep
/// their places; where even null does not fit, the whole list goes.
fn remove(root: &mut Value, path: &Path) -> bool {
    let Some((last, way)) = path.0.split_last() else { return false };
    let parent = way.iter().try_fold(&mut *root, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Item(index) => value.get_mut(index),
    });
    match (parent, last) {
        (Some(Value::Object(map)), Step::Key(key)) => map.remove(key).is_some(),
        (Some(Value::Array(items)), Step::Item(index)) if items.get(*index).is_some_and(|item| !item.is_null()) => {
            items[*index] = Value::Null;
            true
        }
        (Some(_), Step::Item(_)) => remove(root, &Path(way.to_vec())),
        _ => false,
    }
}
