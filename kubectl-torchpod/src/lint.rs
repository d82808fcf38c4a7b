//! Rules over manifests. `check` is pure: manifests and what else is known in, findings out.

mod explain;
mod finding;
mod given;
mod output;
mod rule;
mod rules;

pub use explain::{explain, list};
pub use finding::{Finding, Found, Severity};
pub use given::{Given, NoReport, Version, load_time};
pub use output::{Format, write};
pub use rule::{Context, Rule};

use crate::cluster::Cluster;
use crate::manifest::Manifests;

/// Every rule, by subject.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    rules::ALL.iter().copied().flatten()
}

/// What the rules find, in the order of the files and lines.
pub fn check(manifests: &Manifests, given: &Given) -> Vec<Finding> {
    let cluster = Cluster::new(manifests);
    let context = Context { cluster: &cluster, given };
    let mut findings: Vec<Finding> = rules()
        .flat_map(|rule| (rule.check)(&context).into_iter().map(move |found| Finding { rule, found }))
        .collect();
    findings.sort_by(|one, other| {
        (&one.found.spot, one.rule.id, &one.found.what).cmp(&(&other.found.spot, other.rule.id, &other.found.what))
    });
    findings.dedup_by(|one, other| one.rule.id == other.rule.id && one.found == other.found);
    findings
}
