//! SARIF 2.1.0, the format that code scanning takes. Lines and columns count from 1 there, columns in code points.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::lint::{Finding, Rule, Severity};
use crate::manifest::Manifests;

pub(super) fn sarif(manifests: &Manifests, findings: &[Finding]) -> String {
    let rules: BTreeMap<&str, &Rule> = findings.iter().map(|finding| (finding.rule.id, finding.rule)).collect();
    let place = |finding: &Finding| rules.keys().position(|id| *id == finding.rule.id);
    let result = |finding: &Finding| {
        let mut result = result(manifests, finding);
        result["ruleIndex"] = json!(place(finding));
        result
    };
    let whole = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "kubectl-torchpod",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.values().map(|rule| descriptor(rule)).collect::<Vec<_>>(),
            }},
            "columnKind": "unicodeCodePoints",
            "results": findings.iter().map(result).collect::<Vec<_>>(),
        }],
    });
    format!("{whole:#}\n")
}

fn descriptor(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "shortDescription": { "text": format!("{}.", rule.why) },
        "help": { "text": format!("{}.", rule.fix) },
        "defaultConfiguration": { "level": level(rule.severity) },
    })
}

fn result(manifests: &Manifests, finding: &Finding) -> Value {
    let spot = &finding.found.spot;
    let (start, end) = (spot.span.start, spot.span.end);
    let mut location = json!({ "physicalLocation": {
        "artifactLocation": { "uri": uri(&manifests.sources[spot.file].name) },
        "region": {
            "startLine": start.line.max(1),
            "startColumn": start.column + 1,
            "endLine": end.line.max(start.line).max(1),
            "endColumn": end.column + 1,
        },
    }});
    if !spot.object.is_empty() {
        let name = if spot.path.is_empty() { spot.object.clone() } else { format!("{} {}", spot.object, spot.path) };
        location["logicalLocations"] = json!([{ "fullyQualifiedName": name }]);
    }
    json!({
        "ruleId": finding.rule.id,
        "level": level(finding.rule.severity),
        "message": { "text": format!("{}. {}.", finding.found.what, finding.rule.fix) },
        "locations": [location],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

/// A path as a relative reference: blanks and what else a URI cannot have are percent-encoded.
fn uri(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let encoded = path.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
    encoded.collect()
}
