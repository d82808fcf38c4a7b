//! For people: the line, a caret below what is meant, why it matters and what to do.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};

use crate::lint::{Finding, Severity};
use crate::manifest::{Manifests, Mark, Source};

pub(super) fn text(manifests: &Manifests, findings: &[Finding], colours: bool) -> String {
    let renderer = if colours { Renderer::styled() } else { Renderer::plain() }.decor_style(DecorStyle::Ascii);
    let lines: Vec<Vec<&str>> = manifests.sources.iter().map(|source| source.text.lines().collect()).collect();
    let mut text = String::new();
    for finding in findings {
        let file = finding.found.spot.file;
        text += &report(&renderer, &manifests.sources[file], &lines[file], finding);
        text += "\n\n";
    }
    text + &summary(manifests, findings)
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
