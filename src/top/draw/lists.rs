//! What there may be much of: models, dependencies and transitions, as lines to scroll through.

use std::time::Duration;

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::flow;
use super::table::figure;
use crate::top::ink::{self, Ink};
use crate::top::replica::Replica;
use crate::top::state::{Dependency, Model, State, Transition};
use crate::top::text;

/// As many transitions as a server keeps.
const KEPT: usize = 100;
/// From this width on, a digest is shown whole.
const DIGEST: usize = 74;

fn title(word: &'static str) -> Line<'static> {
    Line::styled(word, ink::title())
}

fn plain(text: &str, style: Style) -> Span<'static> {
    Span::styled(text::plain(text), style)
}

pub(super) fn models(replica: &Replica, state: &State, ink: Ink, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![title("Models")];
    if state.models.is_empty() {
        lines.push(Line::styled("none yet", ink::quiet()));
    }
    for model in &state.models {
        lines.extend(model_lines(model, replica, ink, width));
    }
    lines
}

fn model_lines(model: &Model, replica: &Replica, ink: Ink, width: usize) -> Vec<Line<'static>> {
    let style = match model.state.as_str() {
        "READY" => ink.good(),
        "LOADING" => ink.rising(),
        "UNLOADING" => ink.wait(),
        _ => ink.bad(),
    };
    let device = model.device.as_ref().map(|device| format!(" on {device}")).unwrap_or_default();
    let state = vec![plain(&model.state.to_lowercase(), style), plain(&device, Style::new())];
    let mut parts = vec![plain(&model.id(), ink::strong()).into(), Line::from(state)];
    if let Some(rates) = replica.recent.of(&model.id()) {
        parts.push(figure(text::number(rates.ok), "req/s"));
        parts.extend((rates.failed > 0.0).then(|| figure(text::number(rates.failed), "failed/s")));
        parts.extend(rates.p99.map(|p99| figure(text::took(p99), "p99")));
        parts.extend(rates.rows_a_batch.map(|rows| figure(text::number(rows), "rows a batch")));
    }
    if let Some(figures) = &model.figures {
        parts.extend((figures.queue_requests > 0).then(|| figure(text::count(figures.queue_requests), "waiting")));
    }
    let mut lines = flow::parts(parts, 2, 2, width);
    if let Some(figures) = &model.figures {
        let batch = figures
            .max_batch_rows
            .map_or("one by one".to_owned(), |rows| format!("at most {} a batch", text::counted(rows, "row")));
        let all = [
            text::counted(figures.ok + figures.failed, "request"),
            format!("{} in {}", text::counted(figures.rows, "row"), text::counted(figures.batches, "batch")),
            batch,
        ];
        lines.extend(indented(&all.join(", "), ink::quiet(), width));
    }
    if let Some(digest) = &model.digest {
        // `sha256:` and twelve digits, as kubectl shows what is too long.
        let shown =
            if width < DIGEST { format!("{}…", digest.chars().take(19).collect::<String>()) } else { digest.clone() };
        lines.extend(indented(&shown, ink::quiet(), width));
    }
    lines.extend(indented(&model.reason, ink.bad(), width));
    lines
}

/// Words below a head.
fn indented(text: &str, style: Style, width: usize) -> Vec<Line<'static>> {
    let mut parts = flow::words(&text::plain(text), style);
    if let Some(first) = parts.first_mut() {
        first.spans.insert(0, Span::raw("  "));
    }
    flow::parts(parts, 1, 2, width)
}

pub(super) fn dependencies(state: &State, ink: Ink, age: Duration, width: usize) -> Vec<Line<'static>> {
    if state.dependencies.is_empty() {
        return Vec::new();
    }
    let all = state.dependencies.iter().flat_map(|known| dependency_lines(known, ink, age.as_secs_f64(), width));
    [Line::default(), title("Dependencies")].into_iter().chain(all).collect()
}

fn dependency_lines(known: &Dependency, ink: Ink, age: f64, width: usize) -> Vec<Line<'static>> {
    let is_up = known.state == "up";
    let style = match (is_up, known.required) {
        (true, _) => ink.good(),
        (false, true) => ink.bad(),
        (false, false) => ink.wait(),
    };
    let checked = match (known.checked_seconds_ago, known.latency_seconds) {
        (Some(ago), Some(latency)) => {
            format!("checked {} ago, in {}", text::briefly(ago + age), text::took(latency))
        }
        (Some(ago), None) => format!("checked {} ago", text::briefly(ago + age)),
        (None, _) => "never checked".to_owned(),
    };
    let parts = vec![
        plain(&known.name, ink::strong()).into(),
        plain(&format!("{} for {}", known.state, text::lasted(known.seconds + age)), style).into(),
        plain(if known.required { "required" } else { "optional" }, ink::quiet()).into(),
        plain(&checked, ink::quiet()).into(),
    ];
    let mut lines = flow::parts(parts, 2, 2, width);
    lines.extend(indented(known.error.as_deref().unwrap_or_default(), style, width));
    lines
}

pub(super) fn transitions(state: &State, ink: Ink, age: Duration, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![title("Transitions")];
    lines.extend(state.transitions.iter().flat_map(|made| transition_lines(made, state, ink, age, width)));
    if state.transitions.len() < KEPT {
        let start = Transition { at: state.started.clone(), to: "started".into(), ..Transition::default() };
        lines.extend(transition_lines(&start, state, ink, age, width));
    }
    lines
}

fn transition_lines(made: &Transition, state: &State, ink: Ink, age: Duration, width: usize) -> Vec<Line<'static>> {
    /// `12:34:56Z  59 min ago  `, as wide as it gets.
    const TIME: usize = 23;
    let ago = state.ago(&made.at).map(|ago| format!("{} ago", text::briefly((ago + age).as_secs_f64())));
    let clock = made.at.get(11..19).map(|clock| format!("{clock}Z"));
    let time = format!("{:<11}{:<12}", clock.unwrap_or_default(), ago.unwrap_or_default());
    let style = match made.to.as_str() {
        "serving" | "up" | "clear" | "ready" => ink.good(),
        "draining" => ink.wait(),
        "failed" | "raised" | "down" => ink.bad(),
        _ => Style::new(),
    };
    let mut first = vec![plain(&time, ink::quiet())];
    if !["phase", ""].contains(&made.subject.as_str()) {
        first.push(plain(&format!("{} ", made.subject), Style::new()));
    }
    if !made.from.is_empty() {
        first.push(plain(&format!("{} → ", made.from), ink::quiet()));
    }
    first.push(plain(&made.to, style.patch(ink::strong())));
    let mut parts = vec![Line::from(first)];
    if !made.from.is_empty() {
        let colon = if made.reason.is_empty() { "" } else { ":" };
        parts.push(Line::styled(format!("after {}{colon}", text::lasted(made.seconds)), ink::quiet()));
    }
    parts.extend(flow::words(&text::plain(&made.reason), Style::new()));
    flow::parts(parts, 1, TIME.min(width / 3), width)
}
