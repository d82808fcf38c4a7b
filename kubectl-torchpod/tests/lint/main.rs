//! `kubectl torchpod lint`, by its rules' own examples, the tutorial's manifests, broken ones and many.

mod broken;
mod command;
mod example;
mod mutation;
mod qos;
mod server;
mod shipped;
mod size;
mod tutorial;
mod whole;

use std::collections::BTreeSet;
use std::path::Path;

use kubectl_torchpod::lint::{self, Given, Severity};
use kubectl_torchpod::manifest::{self, Manifests, Source};

/// `rule: what` for all that is found in one file.
fn findings(text: &str, given: &Given) -> Vec<String> {
    let source = Source { name: "given.yaml".to_owned(), text: text.to_owned(), found: false };
    let found = lint::check(&Manifests::parse(vec![source]), given);
    found.iter().map(|finding| format!("{}: {}", finding.rule.id, finding.found.what)).collect()
}

/// `file: rule` of a severity, of every file in a folder of this package, each read alone.
fn found(folder: &str, severity: Severity) -> BTreeSet<String> {
    let sources = manifest::read(&[Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)]).unwrap();
    assert!(sources.len() >= 14, "{} files in {folder}", sources.len());
    let mut all = BTreeSet::new();
    for source in sources {
        let name = source.name.rsplit('/').next().unwrap().to_owned();
        let findings = lint::check(&Manifests::parse(vec![source]), &Given::default());
        let these = findings.iter().filter(|finding| finding.rule.severity == severity);
        all.extend(these.map(|finding| format!("{name}: {}", finding.rule.id)));
    }
    all
}

/// Whether a rule finds something.
fn reports(text: &str, rule: &str) -> bool {
    findings(text, &Given::default()).iter().any(|found| found.starts_with(&format!("{rule}: ")))
}
