//! The page of a rule, and the list of all.

use std::fmt::Write as _;

use super::rule::Rule;

pub fn explain(rule: &Rule) -> String {
    let Rule { id, severity, why, fix, .. } = rule;
    let indented = |text: &str| text.lines().fold(String::new(), |page, line| page + "    " + line + "\n");
    let (fails, passes) = (indented(rule.fails), indented(rule.passes));
    format!("{id} ({severity})\n\n{why}.\n\nFix: {fix}.\n\nFails:\n\n{fails}\nPasses:\n\n{passes}")
}

/// A line for each rule.
pub fn list<'a>(rules: impl Iterator<Item = &'a Rule>) -> String {
    let mut text = String::new();
    for rule in rules {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<38} {:<8} {}", rule.id, rule.severity.to_string(), rule.why);
    }
    text
}
