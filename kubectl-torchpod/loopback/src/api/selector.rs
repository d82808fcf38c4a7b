//! Which objects of a kind a client asks for: by label, by field.

use std::collections::BTreeMap;

use serde_json::Value;

/// What has to hold of an object, all of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<(String, Test)>,
    fields: Vec<(String, Test)>,
}

#[derive(Clone, Debug)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Selector {
    pub(super) fn of(query: &BTreeMap<String, String>) -> Result<Selector, String> {
        let all = |name: &str| -> Result<Vec<(String, Test)>, String> {
            let text = query.get(name).map(String::as_str).unwrap_or_default();
            split(text).into_iter().filter(|one| !one.is_empty()).map(|one| read(&one)).collect()
        };
        Ok(Selector { labels: all("labelSelector")?, fields: all("fieldSelector")? })
    }

    pub(super) fn takes(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"].get(key).and_then(Value::as_str).map(str::to_owned);
        let field = |path: &str| {
            let found = path.split('.').try_fold(object, |value, key| value.get(key));
            Some(found.and_then(Value::as_str).unwrap_or_default().to_owned())
        };
        self.labels.iter().all(|(key, test)| test.holds(label(key).as_deref()))
            && self.fields.iter().all(|(path, test)| test.holds(field(path).as_deref()))
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        let among = |all: &[String]| value.is_some_and(|value| all.iter().any(|one| one == value));
        match self {
            Test::In(all) => among(all),
            Test::NotIn(all) => !among(all),
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
        }
    }
}

/// At commas that stand in no parentheses.
fn split(text: &str) -> Vec<String> {
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in text.chars() {
        match c {
            ',' if depth == 0 => parts.push(String::new()),
            _ => {
                depth += i32::from(c == '(') - i32::from(c == ')');
                parts.last_mut().expect("never empty").push(c);
            }
        }
    }
    parts.into_iter().map(|part| part.trim().to_owned()).collect()
}

fn read(text: &str) -> Result<(String, Test), String> {
    let owned = |text: &str| text.trim().to_owned();
    if let Some((key, value)) = text.split_once("!=") {
        return Ok((owned(key), Test::NotIn(vec![owned(value)])));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok((owned(key), Test::In(vec![owned(value)])));
    }
    if let Some((head, list)) = text.split_once('(') {
        let list = list.strip_suffix(')').ok_or_else(|| format!("unable to parse requirement: {text}"))?;
        let values = list.split(',').map(owned).collect();
        return match head.split_whitespace().collect::<Vec<_>>()[..] {
            [key, "in"] => Ok((owned(key), Test::In(values))),
            [key, "notin"] => Ok((owned(key), Test::NotIn(values))),
            _ => Err(format!("unable to parse requirement: {text}")),
        };
    }
    match text.strip_prefix('!') {
        Some(key) => Ok((owned(key), Test::Absent)),
        None => Ok((owned(text), Test::Exists)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_and_fields_are_selected_in_every_form() {
        let object =
            json!({"metadata": {"name": "a", "labels": {"app": "web", "track": "canary"}}, "spec": {"nodeName": "n"}});
        for (labels, fields, taken) in [
            ("", "", true),
            ("app=web,track==canary", "metadata.name=a", true),
            ("app!=web", "", false),
            ("tier!=front", "", true),
            ("track in (stable, canary),app", "spec.nodeName=n", true),
            ("track notin (canary)", "", false),
            ("!tier", "status.phase!=Failed", true),
            ("tier", "", false),
            ("", "metadata.name!=a", false),
        ] {
            let query = [("labelSelector", labels), ("fieldSelector", fields)];
            let query = query.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            assert_eq!(Selector::of(&query).unwrap().takes(&object), taken, "{labels} {fields}");
        }
        assert!(Selector::of(&BTreeMap::from([("labelSelector".to_owned(), "a of (b)".to_owned())])).is_err());
    }
}
