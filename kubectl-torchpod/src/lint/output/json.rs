//! For programs. Fields are only ever added.

use serde_json::json;

use crate::lint::{Finding, Severity};
use crate::manifest::Manifests;

pub(super) fn json(manifests: &Manifests, findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.rule.severity == severity).count();
    let one = |finding: &Finding| {
        let spot = &finding.found.spot;
        json!({
            "rule": finding.rule.id,
            "severity": finding.rule.severity.to_string(),
            "file": manifests.sources[spot.file].name,
            "line": spot.span.start.line,
            "column": spot.span.start.column + 1,
            "object": spot.object,
            "path": spot.path,
            "what": finding.found.what,
            "why": finding.rule.why,
            "fix": finding.rule.fix,
        })
    };
    let whole = json!({
        "objects": manifests.objects.len(),
        "errors": count(Severity::Error),
        "warnings": count(Severity::Warning),
        "infos": count(Severity::Info),
        "findings": findings.iter().map(one).collect::<Vec<_>>(),
    });
    format!("{whole:#}\n")
}
