//! Parts of a line that go on in the next one where there is no room left.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

/// Puts `parts` into lines of `width`, with `gap` spaces between two of them; lines after the first begin with `indent`
/// spaces. A part alone on its line may be longer.
pub(super) fn parts(parts: Vec<Line<'static>>, gap: usize, indent: usize, width: usize) -> Vec<Line<'static>> {
    let mut lines: Vec<Line> = Vec::new();
    for part in parts.into_iter().filter(|part| part.width() > 0) {
        match lines.last_mut() {
            Some(line) if line.width() + gap + part.width() <= width => {
                line.push_span(" ".repeat(gap));
                line.extend(part.spans);
            }
            Some(_) => lines.push([Span::raw(" ".repeat(indent))].into_iter().chain(part.spans).collect()),
            None => lines.push(part),
        }
    }
    lines
}

/// A part that is at least so wide.
pub(super) fn padded(mut part: Line<'static>, width: usize) -> Line<'static> {
    part.push_span(" ".repeat(width.saturating_sub(part.width())));
    part
}

/// The words of `text`, each a part.
pub(super) fn words(text: &str, style: Style) -> Vec<Line<'static>> {
    text.split_whitespace().map(|word| Line::from(Span::styled(word.to_owned(), style))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_goes_on_in_the_next_line() {
        let text = |width| parts(words("one three seven", Style::new()), 1, 2, width);
        let text = |width| text(width).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(text(20), ["one three seven"]);
        assert_eq!(text(10), ["one three", "  seven"]);
        assert_eq!(text(3), ["one", "  three", "  seven"], "a long word is not cut here");
    }
}
