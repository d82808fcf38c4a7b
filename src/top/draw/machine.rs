//! The state machine: where the server is, where it has been and for how long, and where it can go.

use std::collections::BTreeMap;

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::top::ink::{self, Ink};
use crate::top::replica::Condition;
use crate::top::state::State;
use crate::top::text;

const LIFE: [&str; 6] = ["starting", "loading", "warming", "serving", "draining", "stopped"];
/// Where loading failed.
const FAILURE: [&str; 4] = ["starting", "loading", "warming", "failed"];

/// What each phase means.
pub(super) fn meaning(phase: &str) -> &'static str {
    match phase {
        "starting" => "ports are open, nothing has been read",
        "loading" => "models are being read",
        "warming" => "models prove themselves and warm up",
        "serving" => "every model is loaded, checked and warm",
        "draining" => "asked to end",
        "stopped" => "it has ended",
        "failed" => "loading failed for good; the process is ending",
        _ => "a phase of another release",
    }
}

/// A phase on the way.
struct Node {
    name: &'static str,
    is_now: bool,
    /// How long it has lasted, or did; `None` where it never was.
    seconds: Option<f64>,
}

fn nodes(state: &State, seconds: f64) -> Vec<Node> {
    let mut past: BTreeMap<&str, f64> = BTreeMap::new();
    for made in state.transitions.iter().filter(|made| made.subject == "phase") {
        past.entry(&made.from).or_insert(made.seconds);
    }
    let names: &[&str] = if state.phase == "failed" { &FAILURE } else { &LIFE };
    let node = |name: &&'static str| {
        let is_now = *name == state.phase;
        Node { name, is_now, seconds: if is_now { Some(seconds) } else { past.get(name).copied() } }
    };
    names.iter().map(node).collect()
}

impl Node {
    fn style(&self, ink: Ink, condition: Condition) -> Style {
        match self.seconds {
            Some(_) if self.is_now => ink.condition(condition).patch(ink::strong()),
            Some(_) => Style::new(),
            None => ink::quiet(),
        }
    }

    fn time(&self, form: fn(f64) -> String) -> String {
        self.seconds.map(form).unwrap_or_default()
    }
}

/// Below a second as it is, else in one unit.
fn short(seconds: f64) -> String {
    if seconds < 1.0 { text::took(seconds) } else { text::briefly(seconds) }
}

/// As boxes where `width` has room for them, else on two lines.
pub(super) fn lines(
    state: &State,
    seconds: f64,
    (ink, condition): (Ink, Condition),
    width: usize,
    is_tall: bool,
) -> Vec<Line<'static>> {
    let nodes = nodes(state, seconds);
    let size = [(14, 5), (12, 3)].into_iter().find(|(each, way)| nodes.len() * (each + way) - way <= width);
    match size.filter(|_| is_tall) {
        Some((each, way)) => boxes(&nodes, (each, way), ink, condition),
        None => flat(&nodes, ink, condition, width),
    }
}

fn flat(nodes: &[Node], ink: Ink, condition: Condition, width: usize) -> Vec<Line<'static>> {
    let cell = |node: &Node| node.name.len().max(node.time(short).chars().count());
    let names: usize = nodes.iter().map(cell).sum();
    let fits = |way: &&str| names + way.chars().count() * (nodes.len() - 1) <= width;
    let way = [" ─▶ ", " › "].into_iter().find(fits).unwrap_or("›");
    let [mut upper, mut lower] = [Line::default(), Line::default()];
    for (index, node) in nodes.iter().enumerate() {
        if index > 0 {
            let style = if node.seconds.is_some() { Style::new() } else { ink::quiet() };
            upper.push_span(Span::styled(way, style));
            lower.push_span(" ".repeat(way.chars().count()));
        }
        let (style, room) = (node.style(ink, condition), cell(node));
        upper.push_span(Span::styled(format!("{:^room$}", node.name), style));
        lower.push_span(Span::styled(
            format!("{:^room$}", node.time(short)),
            if node.is_now { style } else { ink::quiet() },
        ));
    }
    vec![upper, lower]
}

fn boxes(nodes: &[Node], (each, way): (usize, usize), ink: Ink, condition: Condition) -> Vec<Line<'static>> {
    let room = each - 2;
    let mut lines = vec![Line::default(); 4];
    for (index, node) in nodes.iter().enumerate() {
        let style = node.style(ink, condition);
        let [left_top, flat, right_top, side, left_end, right_end] = if node.is_now {
            ["┏", "━", "┓", "┃", "┗", "┛"]
        } else {
            ["╭", "─", "╮", "│", "╰", "╯"]
        };
        if index > 0 {
            let taken = if node.seconds.is_some() { Style::new() } else { ink::quiet() };
            for (row, line) in lines.iter_mut().enumerate() {
                let arrow = if row == 1 { format!("{}▶", "─".repeat(way - 1)) } else { " ".repeat(way) };
                line.push_span(Span::styled(arrow, taken));
            }
        }
        let rows = [
            format!("{left_top}{}{right_top}", flat.repeat(room)),
            format!("{side}{:^room$}{side}", node.name),
            format!("{side}{:^room$}{side}", node.time(text::lasted)),
            format!("{left_end}{}{right_end}", flat.repeat(room)),
        ];
        for (line, text) in lines.iter_mut().zip(rows) {
            line.push_span(Span::styled(text, style));
        }
    }
    lines
}
