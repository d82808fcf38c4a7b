//! The page that `?` shows: the keys, and what the columns and signs mean.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::flow;
use crate::top::ink::{self, Ink};
use crate::top::replica::Condition;
use crate::top::view::Order;

const KEYS: [(&str, &str); 6] = [
    ("↑ ↓", "choose, or scroll (also k j, PageUp PageDown, Home End)"),
    ("Enter", "open it"),
    ("← →", "the one before, the one behind (also Tab)"),
    ("Esc", "back to all of them"),
    ("i", "the other way round"),
    ("q, Ctrl-C", "end"),
];

const COLUMNS: [(&str, &str); 7] = [
    ("PROBES", "/startup, /health, /ready, as a kubelet hears them: ✔ passes"),
    ("REQ/S", "requests answered, between the last two looks"),
    ("FAIL/S", "requests that were refused or failed"),
    ("P50, P99", "how long those that were answered took, from head to answer"),
    ("ROWS", "rows a batch, on average"),
    ("QUEUE", "requests that wait for a batch"),
    ("FLIGHT", "requests that are not answered yet, those that wait included"),
];

const SIGNS: [(Condition, &str); 7] = [
    (Condition::Silent, "what it said last is shown; · ended, where it was draining"),
    (Condition::Failed, "loading failed, and the process is ending"),
    (Condition::Faulty, "a fault: the kubelet restarts it if that lasts"),
    (Condition::Unready, "it serves, but no Service sends it requests"),
    (Condition::Rising, "on its way to serving"),
    (Condition::Draining, "asked to end; it answers what still comes"),
    (Condition::Ready, "it serves, and every probe passes"),
];

/// Where explanations begin.
const INDENT: usize = 14;

/// Three groups, with room between them where `height` has it.
pub(super) fn lines(ink: Ink, width: usize, height: usize) -> Vec<Line<'static>> {
    let row = |head: Span<'static>, words: &str| {
        let space = INDENT.saturating_sub(1 + head.width());
        let mut parts = flow::words(words, Style::new());
        let mut first = Line::from(vec![Span::raw(" "), head, Span::raw(" ".repeat(space))]);
        first.extend(parts.remove(0).spans);
        parts.insert(0, first);
        flow::parts(parts, 1, INDENT, width)
    };
    let orders = Order::ALL.map(|(_, _, words)| words).join(", ");
    let letters = Order::ALL.map(|(letter, ..)| letter.to_string()).join(" ");
    let mut keys: Vec<Line> =
        KEYS.iter().flat_map(|(key, words)| row(Span::styled(*key, ink::strong()), words)).collect();
    keys.extend(row(Span::styled(letters, ink::strong()), &format!("order: {orders}")));
    let signs = SIGNS.iter().flat_map(|(condition, words)| {
        row(Span::styled(format!("{} {}", condition.sign(), condition.name()), ink.condition(*condition)), words)
    });
    let columns = COLUMNS.iter().flat_map(|(column, words)| row(Span::styled(*column, ink::quiet()), words));
    let groups = [keys, signs.collect(), columns.collect()];
    let is_airy = groups.iter().map(Vec::len).sum::<usize>() + 3 <= height;
    groups.into_iter().flat_map(|group| is_airy.then(Line::default).into_iter().chain(group)).collect()
}
