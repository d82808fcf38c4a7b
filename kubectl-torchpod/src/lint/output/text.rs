//! For people: the line, a caret below what is meant, why it matters and what to do.

use std::path::Path;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::lint::{Finding, Severity};
use crate::manifest::{Manifests, Mark, Source};

/// What was not looked at, or not as part of the whole. A folder of overlays has hundreds of them, so that where there
/// are several, each of these rules gets one line.
const IN_BRIEF: [&str; 3] = ["file-apart", "kind-unchecked", "kustomize-skipped"];

pub(super) fn text(manifests: &Manifests, findings: &[Finding], colours: bool) -> String {
    let renderer = if colours { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Ascii);
    let lines: Vec<Vec<&str>> = manifests.sources.iter().map(|source| source.text.lines().collect()).collect();
    let mut text = String::new();
    let (brief, full) = in_brief(findings);
    for finding in full {
        let file = finding.found.spot.file;
        text += &report(&renderer, &manifests.sources[file], &lines[file], finding);
        text += "\n\n";
    }
    for several in &brief {
        let title = Level::INFO.primary_title(in_a_line(manifests, several)).id(several[0].rule.id);
        text += &renderer.render(&[Group::with_title(title)]);
        text += "\n\n";
    }
    text + &summary(manifests, findings)
}

/// What gets one line for all, by rule, and what is told one by one.
fn in_brief(findings: &[Finding]) -> (Vec<Vec<&Finding>>, Vec<&Finding>) {
    let of = |id: &str| findings.iter().filter(|finding| finding.rule.id == id).collect::<Vec<_>>();
    let brief: Vec<_> = IN_BRIEF.into_iter().map(of).filter(|several| several.len() > 1).collect();
    let is_brief = |finding: &&Finding| brief.iter().any(|several| several[0].rule.id == finding.rule.id);
    let full = findings.iter().filter(|finding| !is_brief(finding)).collect();
    (brief, full)
}

fn in_a_line(manifests: &Manifests, several: &[&Finding]) -> String {
    let name = |finding: &Finding| manifests.sources[finding.found.spot.file].name.as_str();
    let first = several[0];
    let holds_all = |folder: &&Path| several.iter().all(|finding| Path::new(name(finding)).starts_with(folder));
    let shared = Path::new(name(first)).ancestors().find(holds_all).filter(|path| !path.as_os_str().is_empty());
    let place = shared.map_or(String::new(), |path| format!(" in {}", path.display()));
    let (line, what) = (first.found.spot.span.start.line, &first.found.what);
    format!("{} times{place}, first at {}:{line}: {what}", several.len(), name(first))
}

fn report(renderer: &Renderer, source: &Source, lines: &[&str], finding: &Finding) -> String {
    let spot = &finding.found.spot;
    let level = match finding.rule.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Info => Level::INFO,
    };
    let line = lines.get(spot.span.start.line.saturating_sub(1)).copied().unwrap_or_default();
    let start = byte(line, spot.span.start);
    let same = spot.span.end.line == spot.span.start.line;
    let end = if same { byte(line, spot.span.end).max(start) } else { line.trim_end().len().max(start) };
    let annotation = AnnotationKind::Primary.span(start..end);
    let annotation = if spot.object.is_empty() { annotation } else { annotation.label(&spot.object) };
    let snippet = Snippet::source(line).line_start(spot.span.start.line).path(&source.name).annotation(annotation);
    let group = level
        .primary_title(&finding.found.what)
        .id(finding.rule.id)
        .element(snippet)
        .element(Level::NOTE.with_name("why").message(finding.rule.why))
        .element(Level::HELP.with_name("fix").message(finding.rule.fix));
    renderer.render(&[group])
}

/// Where a character of a line begins, in bytes.
fn byte(line: &str, mark: Mark) -> usize {
    line.char_indices().nth(mark.column).map_or(line.len(), |(byte, _)| byte)
}

fn summary(manifests: &Manifests, findings: &[Finding]) -> String {
    let count = |severity| findings.iter().filter(|finding| finding.rule.severity == severity).count();
    let some = |number: usize, one: &str| format!("{number} {one}{}", if number == 1 { "" } else { "s" });
    format!(
        "{}, {}, {} of advice in {}\n",
        some(count(Severity::Error), "error"),
        some(count(Severity::Warning), "warning"),
        some(count(Severity::Info), "piece"),
        some(manifests.objects.len(), "object"),
    )
}
