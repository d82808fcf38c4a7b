//! `kubectl torchpod lint`, by its rules' own examples, the tutorial's manifests, broken ones and many.

mod command;
mod example;
mod mutation;
mod qos;
mod server;
mod size;
mod tutorial;
mod whole;

use kubectl_torchpod::lint::{self, Given};
use kubectl_torchpod::manifest::{Manifests, Source};

/// `rule: what` for all that is found in one file.
fn findings(text: &str, given: &Given) -> Vec<String> {
    let source = Source { name: "given.yaml".to_owned(), text: text.to_owned(), found: false };
    let found = lint::check(&Manifests::parse(vec![source]), given);
    found.iter().map(|finding| format!("{}: {}", finding.rule.id, finding.found.what)).collect()
}

/// Whether a rule finds something.
fn reports(text: &str, rule: &str) -> bool {
    findings(text, &Given::default()).iter().any(|found| found.starts_with(&format!("{rule}: ")))
}
