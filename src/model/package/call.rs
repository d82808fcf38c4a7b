//! What a package's inputs and outputs are called, from its call specification: the tree of arguments and of results that
//! torch.export keeps as JSON (source: `torch/utils/_pytree.py`). Pure.

use serde_json::Value;

/// The names of the inputs and of the outputs, each in its order.
pub(super) fn names(source: &str) -> Option<[Vec<String>; 2]> {
    let (taken, returned) = (tree(source, "in_spec_ = ")?, tree(source, "out_spec_ = ")?);
    let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
    let [arguments, keywords] = &taken["children_spec"].as_array()?[..] else { return None };
    leaves(arguments, "input", &mut inputs)?;
    leaves(keywords, "input", &mut inputs)?;
    leaves(&returned, "output", &mut outputs)?;
    // `forward(x)` is called with a tuple of one.
    if let [only] = &mut inputs[..]
        && only == "input_0"
    {
        "input".clone_into(only);
    }
    Some([inputs, outputs])
}

/// The specification that `start` introduces, as C++ writes a raw string: maybe in pieces, one after the other.
fn tree(source: &str, start: &str) -> Option<Value> {
    let (_, rest) = source.split_once(start)?;
    let (statement, _) = rest.split_once(")\";")?;
    let pieces = statement.split("R\"(").skip(1).map(|piece| piece.trim_end().trim_end_matches(")\""));
    let Value::Array(mut versioned) = serde_json::from_str(&pieces.collect::<String>()).ok()? else { return None };
    (versioned.len() == 2).then(|| versioned.swap_remove(1))
}

/// Names as TorchScript's outputs have them: elements of a tuple or list are numbered, those of a dict carry their keys.
fn leaves(tree: &Value, name: &str, names: &mut Vec<String>) -> Option<()> {
    let children = tree["children_spec"].as_array()?;
    let kind = match &tree["type"] {
        Value::Null => {
            names.push(name.to_owned());
            return Some(());
        }
        kind => kind.as_str()?,
    };
    if kind.ends_with("dict") {
        let keys: Vec<Value> = serde_json::from_str(tree["context"].as_str()?).ok()?;
        let key = |key: &Value| key.as_str().map_or_else(|| format!("{name}_{key}"), str::to_owned);
        return (keys.len() == children.len())
            .then(|| keys.iter().zip(children).try_for_each(|(of, child)| leaves(child, &key(of), names)))?;
    }
    let mut numbered = children.iter().enumerate();
    numbered.try_for_each(|(index, child)| leaves(child, &format!("{name}_{index}"), names))
}
