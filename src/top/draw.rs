//! What stands on the screen: a pure function of what is known and what was chosen.

mod chart;
mod flow;
mod help;
mod lists;
mod machine;
mod replica;
mod table;

use std::time::Duration;

use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget as _;

use super::fleet::Fleet;
use super::ink::{self, Ink};
use super::view::View;

/// With what it is drawn, and as of when.
#[derive(Clone, Copy)]
pub(super) struct Pen {
    pub(super) ink: Ink,
    pub(super) now: Duration,
}

/// Draws all of it, and returns how many lines can be scrolled away.
pub(super) fn draw(frame: &mut Frame, fleet: &Fleet, view: &View, pen: Pen) -> usize {
    let area = frame.area();
    let [body, foot] = split(area, area.height.saturating_sub(1));
    let buffer = frame.buffer_mut();
    let rows = view.rows(fleet);
    let alone = view.alone(&rows);
    footer(alone.is_some(), rows.len() > 1, view.help).render(foot, buffer);
    match alone {
        _ if view.help => {
            lines(&help::lines(pen.ink, usize::from(body.width), usize::from(body.height)), body, buffer);
            0
        }
        Some(replica) => replica::draw(replica, view.scroll, pen, body, buffer),
        None => {
            table::draw(fleet, view, pen, body, buffer);
            0
        }
    }
}

fn footer(is_alone: bool, has_others: bool, is_help: bool) -> Line<'static> {
    let keys: &[(&str, &str)] = match (is_help, is_alone, has_others) {
        (true, ..) => &[("any key", "back")],
        (_, true, false) => &[("q", "end"), ("?", "help"), ("↑↓", "scroll")],
        (_, true, true) => &[("q", "end"), ("?", "help"), ("Esc", "all"), ("←→", "others"), ("↑↓", "scroll")],
        _ => &[("q", "end"), ("?", "help"), ("↑↓", "choose"), ("Enter", "open"), ("wnrflu", "order")],
    };
    let keys = keys.iter().flat_map(|(key, word)| {
        [Span::raw(" "), Span::styled(*key, ink::strong()), Span::styled(format!(" {word} "), ink::quiet())]
    });
    keys.collect()
}

/// The upper `height` lines, and the rest.
fn split(area: Rect, height: u16) -> [Rect; 2] {
    let height = height.min(area.height);
    [Rect { height, ..area }, Rect { y: area.y + height, height: area.height - height, ..area }]
}

/// As many lines as there is room for, one below the other.
fn lines(lines: &[Line], area: Rect, buffer: &mut Buffer) {
    for (line, y) in lines.iter().zip(area.top()..area.bottom()) {
        line.render(Rect { y, height: 1, ..area }, buffer);
    }
}

/// Left and right ends of one line; where there is no room for both, the left one.
fn ends(left: Line<'static>, right: Line<'static>, width: usize) -> Line<'static> {
    let room = width.saturating_sub(left.width() + right.width());
    if room < 2 {
        return left;
    }
    let space = Span::raw(" ".repeat(room));
    left.spans.into_iter().chain([space]).chain(right.spans).collect()
}

#[cfg(test)]
mod tests;
