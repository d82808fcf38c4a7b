//! What a rule is: a name, a reason, a remedy, two examples and a small function.

use super::finding::{Found, Severity};
use super::given::Given;
use crate::cluster::Cluster;

/// What a rule may ask.
pub struct Context<'a> {
    pub cluster: &'a Cluster<'a>,
    pub given: &'a Given,
}

pub struct Rule {
    /// Stable: people write it into `--allow` and search for it.
    pub id: &'static str,
    pub severity: Severity,
    /// One sentence on what happens otherwise.
    pub why: &'static str,
    /// One sentence on what to do.
    pub fix: &'static str,
    pub check: fn(&Context<'_>) -> Vec<Found>,
    /// Manifests in which it finds something, and nothing else does.
    pub fails: &'static str,
    /// The same, put right.
    pub passes: &'static str,
}

/// Rules as a table: id, severity, why, fix, function. The examples are `rules/ID/{fails,passes}.yaml`.
macro_rules! rules {
    ($($id:literal, $severity:ident, $check:path, $why:literal, $fix:literal;)*) => {
        pub(super) static RULES: &[$crate::lint::Rule] = &[$($crate::lint::Rule {
            id: $id,
            severity: $crate::lint::Severity::$severity,
            why: $why,
            fix: $fix,
            check: $check,
            fails: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/rules/", $id, "/fails.yaml")),
            passes: include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/rules/", $id, "/passes.yaml")),
        }),*];
    };
}
pub(super) use rules;
