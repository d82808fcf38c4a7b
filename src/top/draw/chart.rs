//! A line of values as bars, the last second at the right: its greatest value stands at the left.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::widgets::{Sparkline, SparklineBar, Widget as _};

use crate::top::ink;
use crate::top::text;

/// What stands left of the bars.
const LABEL: u16 = 11;
/// Finer than any cell is high.
const SCALE: f64 = 1000.0;

/// How many values there is room for.
pub(super) fn seconds(area: Rect) -> usize {
    usize::from(area.width.saturating_sub(LABEL))
}

/// `form` makes a text of the greatest value, and `word` says of what.
pub(super) fn draw(
    values: &[Option<f64>],
    (word, form): (&str, fn(f64) -> String),
    style: Style,
    area: Rect,
    buffer: &mut Buffer,
) {
    let most = values.iter().flatten().fold(0.0, |most: f64, value| most.max(*value));
    let labels = [word.to_owned(), if most > 0.0 { format!("≤ {}", form(most)) } else { String::new() }];
    for (label, y) in labels.into_iter().zip(area.top()..area.bottom()) {
        Line::styled(label, ink::quiet()).render(Rect { y, height: 1, width: LABEL.min(area.width), ..area }, buffer);
    }
    // An eighth of a cell: that nothing happened is to be seen, and is not the same as nothing known.
    let least = SCALE / (8.0 * f64::from(area.height.max(1)));
    let bar = |value: &Option<f64>| match value {
        None => SparklineBar::from(None),
        Some(value) if *value > 0.0 => {
            SparklineBar::from(text::whole((value / most * SCALE).max(least.ceil()))).style(Some(style))
        }
        Some(_) => SparklineBar::from(text::whole(least.ceil())).style(Some(ink::quiet())),
    };
    let bars = Rect { x: area.x + LABEL.min(area.width), width: area.width.saturating_sub(LABEL), ..area };
    let line = Sparkline::default().data(values.iter().map(bar)).max(text::whole(SCALE)).absent_value_symbol(" ");
    line.render(bars, buffer);
}
