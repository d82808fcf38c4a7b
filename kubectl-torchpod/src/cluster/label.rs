//! Which labels a selector means.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::Labels;

pub fn matches(selector: &LabelSelector, labels: &Labels) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|expression| {
            let value = labels.get(&expression.key);
            let listed = || value.is_some_and(|value| expression.values.iter().flatten().any(|one| one == value));
            match expression.operator.as_str() {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// Labels that say which application a pod is, so that another value is another application.
const NAMES: [&str; 6] =
    ["app", "app.kubernetes.io/component", "app.kubernetes.io/instance", "app.kubernetes.io/name", "k8s-app", "name"];

pub fn is_name(key: &str) -> bool {
    NAMES.contains(&key)
}

/// Whether labels differ from a selector in one of them, by a slip.
pub(super) fn is_near(selector: &Labels, labels: &Labels) -> bool {
    let mut differing = selector.iter().filter(|(key, value)| labels.get(*key) != Some(*value));
    let (Some((key, value)), None) = (differing.next(), differing.next()) else { return false };
    let slip = labels.get(key).is_some_and(|other| is_slip(value, other));
    slip || (selector.len() > 1 && !is_name(key))
}

/// One character too many, too few, changed, or swapped with its neighbour; but `web-1` and `web-2` are two.
pub fn is_slip(one: &str, other: &str) -> bool {
    let letters = |text: &str| text.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
    one.len().min(other.len()) >= 3 && strsim::osa_distance(one, other) == 1 && letters(one) != letters(other)
}

/// Labels as kubectl writes them: `app=web,track=canary`.
pub fn spelt(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_near_by_a_slip_and_not_by_what_many_share() {
        let labels =
            |pairs: &[(&str, &str)]| pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let pod: Labels = labels(&[("app", "web"), ("team", "ml"), ("version", "blue")]);
        for (selector, near) in [
            (&[("app", "wbe")][..], true),
            (&[("app", "web"), ("version", "purple")], true),
            (&[("app", "web"), ("tier", "front")], true),
            (&[("app", "database"), ("team", "ml")], false),
            (&[("app", "database")], false),
            (&[("app", "web"), ("team", "ml")], false),
        ] {
            assert_eq!(is_near(&labels(selector), &pod), near, "{selector:?}");
        }
        assert!(!is_slip("web-1", "web-2") && !is_slip("v1", "v2") && is_slip("model", "modle"));
    }
}
