//! Many replicas: how many are how, what they do together, and a line for each.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget as _;

use super::{Pen, chart, ends, flow, lines, split};
use crate::top::column::{self, Column, GAP};
use crate::top::fleet::Fleet;
use crate::top::ink::{self, Ink};
use crate::top::replica::{Condition, Replica};
use crate::top::text;
use crate::top::view::{Order, View};

/// From this height on there is a chart.
const TALL: u16 = 16;

pub(super) fn draw(fleet: &Fleet, view: &View, Pen { ink, now }: Pen, area: Rect, buffer: &mut Buffer) {
    let rows = view.rows(fleet);
    let area = Rect { x: area.x + 1, width: area.width.saturating_sub(2), ..area };
    let width = usize::from(area.width);
    let mut head = census(fleet, rows.len(), ink, width);
    head.extend(load(fleet, view, width));
    for problem in fleet.problems() {
        let text = format!("{}, for {}", problem.why, text::lasted(now.saturating_sub(problem.since).as_secs_f64()));
        head.extend(flow::parts(flow::words(&text::plain(&text), ink.wait()), 1, 0, width));
    }
    let (top, mut rest) = height(&head, area);
    lines(&head, top, buffer);
    if area.height >= TALL {
        let (bars, below) = (Rect { height: 2, ..rest }, split(rest, 3)[1]);
        chart::draw(&fleet.line(now, chart::seconds(bars)), ("req/s", text::number), ink.rising(), bars, buffer);
        rest = below;
    }
    let names = rows.iter().map(|(_, replica)| replica.name.chars().count()).max().unwrap_or_default();
    // Two for the sign.
    let columns = column::fitting(width.saturating_sub(2), names);
    let [title, rest] = split(rest, 1);
    titles(&columns, view.order).render(title, buffer);
    let place = view.place(&rows);
    let room = usize::from(rest.height).max(1);
    let first = (place + 1).saturating_sub(room);
    for (index, y) in (first..rows.len()).zip(rest.top()..rest.bottom()) {
        let area = Rect { y, height: 1, ..rest };
        row(rows[index].1, &columns, ink, now).render(area, buffer);
        if index == place {
            buffer.set_style(area, ink::chosen());
        }
    }
}

fn height(head: &[Line], area: Rect) -> (Rect, Rect) {
    let height = u16::try_from(head.len()).unwrap_or(u16::MAX);
    let [top, rest] = split(area, height);
    (top, rest)
}

/// How many are how, the worst first.
fn census(fleet: &Fleet, count: usize, ink: Ink, width: usize) -> Vec<Line<'static>> {
    let mut parts = vec![Line::from(Span::styled(text::counted(count as u64, "replica"), ink::strong()))];
    parts.extend(fleet.census().into_iter().map(|(condition, count)| {
        Line::from(Span::styled(format!("{} {count} {}", condition.sign(), condition.name()), ink.condition(condition)))
    }));
    flow::parts(parts, 3, 0, width)
}

/// What they do together, and how they are sorted.
fn load(fleet: &Fleet, view: &View, width: usize) -> Vec<Line<'static>> {
    let parts = match fleet.rates() {
        Some(rates) => vec![
            figure(text::number(rates.ok), "req/s"),
            figure(text::number(rates.failed), "failed/s"),
            figure(rates.p50.map_or("–".to_owned(), text::took), "p50"),
            figure(rates.p99.map_or("–".to_owned(), text::took), "p99"),
            figure(rates.rows_a_batch.map_or("–".to_owned(), text::number), "rows a batch"),
        ],
        None => vec![Line::styled("looking", ink::quiet())],
    };
    let mut lines = flow::parts(parts, 3, 0, width);
    let order = Order::ALL.into_iter().find(|(_, order, _)| *order == view.order).map_or("", |(.., words)| words);
    let inverted = if view.inverted { ", inverted" } else { "" };
    if let Some(last) = lines.pop() {
        lines.push(ends(last, Line::styled(format!("order: {order}{inverted}"), ink::quiet()), width));
    }
    lines
}

/// A number and what it is of.
pub(super) fn figure(number: String, word: &str) -> Line<'static> {
    Line::from(vec![Span::styled(number, ink::strong()), Span::styled(format!(" {word}"), ink::quiet())])
}

fn titles(columns: &[(Column, usize)], order: Order) -> Line<'static> {
    let mut spans = vec![Span::raw("  ")];
    for (index, (column, width)) in columns.iter().enumerate() {
        spans.extend((index > 0).then(|| Span::raw(" ".repeat(GAP))));
        let style = if column.order() == Some(order) { ink::title() } else { ink::quiet() };
        let title = column.title();
        let space = Span::raw(" ".repeat(width.saturating_sub(title.chars().count())));
        let title = Span::styled(title, style);
        spans.extend(if column.is_number() { [space, title] } else { [title, space] });
    }
    spans.into()
}

fn row(replica: &Replica, columns: &[(Column, usize)], ink: Ink, now: Duration) -> Line<'static> {
    let condition = replica.condition();
    let style = ink.condition(condition);
    let mut spans = vec![Span::styled(format!("{} ", condition.sign()), style)];
    let width: usize = columns.iter().map(|(_, width)| width + GAP).sum::<usize>() - GAP;
    for (index, (column, room)) in columns.iter().enumerate() {
        // Who does not answer has nothing to tell in between.
        if replica.silence().is_some() && !matches!(column, Column::Name | Column::Phase | Column::Remark) {
            continue;
        }
        let used: usize = spans.iter().map(Span::width).sum::<usize>() - 2;
        spans.extend((index > 0).then(|| Span::raw(" ".repeat(GAP))));
        let room = if *column == Column::Remark { width.saturating_sub(used + GAP) } else { *room };
        let text = cell(&column.cell(replica, now), room, column.is_number());
        let style = match column {
            Column::Phase => style,
            Column::Remark if condition != Condition::Ready => style,
            Column::Failures if replica.rates().is_some_and(|rates| rates.failed > 0.0) => ink.bad(),
            Column::Trend => ink.rising(),
            Column::Remark => ink::quiet(),
            _ => ratatui::style::Style::new(),
        };
        spans.push(Span::styled(text, style));
    }
    spans.into()
}

/// As wide as `width`, to the right if `is_number`; what is longer ends with `…`.
fn cell(text: &str, width: usize, is_number: bool) -> String {
    if text.chars().count() > width {
        let kept: String = text.chars().take(width.saturating_sub(1)).collect();
        return format!("{kept}…");
    }
    if is_number { format!("{text:>width$}") } else { format!("{text:<width$}") }
}
