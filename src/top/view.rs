//! What whoever looks has chosen to see: the order of the table, the row, whether it is opened. Pure.

use std::cmp::{Ordering, Reverse};

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::fleet::{Fleet, Key};
use super::replica::Replica;
use super::state::State;

/// How far a page is.
const PAGE: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Worst,
    Name,
    Requests,
    Failures,
    Latency,
    Waiting,
}

#[derive(Debug)]
pub(super) struct View {
    pub(super) order: Order,
    pub(super) inverted: bool,
    /// It stays the same replica wherever its row goes.
    chosen: Option<Key>,
    opened: bool,
    pub(super) help: bool,
    /// Lines that have left at the top.
    pub(super) scroll: usize,
}

impl Order {
    /// Each with its key and its words.
    pub(super) const ALL: [(char, Self, &str); 6] = [
        ('w', Self::Worst, "worst"),
        ('n', Self::Name, "name"),
        ('r', Self::Requests, "req/s"),
        ('f', Self::Failures, "fail/s"),
        ('l', Self::Latency, "p99"),
        ('u', Self::Waiting, "queue"),
    ];

    fn compare(self, one: &(Key, &Replica), other: &(Key, &Replica)) -> Ordering {
        let rate = |(_, replica): &(Key, &Replica)| {
            let rates = replica.rates()?;
            match self {
                Self::Failures => Some(rates.failed),
                Self::Latency => rates.p99,
                _ => Some(rates.ok),
            }
        };
        let waiting = |(_, replica): &(Key, &Replica)| replica.state().map(State::waiting);
        let ordering = match self {
            Self::Worst => one.1.condition().cmp(&other.1.condition()),
            Self::Name => Ordering::Equal,
            Self::Requests | Self::Failures | Self::Latency => {
                rate(other).unwrap_or(-1.0).total_cmp(&rate(one).unwrap_or(-1.0))
            }
            Self::Waiting => Reverse(waiting(one)).cmp(&Reverse(waiting(other))),
        };
        ordering.then(one.0.cmp(&other.0))
    }
}

impl View {
    pub(super) fn new() -> Self {
        Self { order: Order::Worst, inverted: false, chosen: None, opened: false, help: false, scroll: 0 }
    }

    /// Everybody, in the order of the table.
    pub(super) fn rows<'a>(&self, fleet: &'a Fleet) -> Vec<(Key, &'a Replica)> {
        let mut rows: Vec<_> = fleet.rows().collect();
        rows.sort_by(|one, other| self.order.compare(one, other));
        if self.inverted {
            rows.reverse();
        }
        rows
    }

    /// Where the chosen row is; the first one where there is none, or no more.
    pub(super) fn place(&self, rows: &[(Key, &Replica)]) -> usize {
        rows.iter().position(|(key, _)| Some(*key) == self.chosen).unwrap_or_default()
    }

    /// The replica that is shown alone: the opened one, or the only one.
    pub(super) fn alone<'a>(&self, rows: &[(Key, &'a Replica)]) -> Option<&'a Replica> {
        let is_there = rows.len() == 1 || self.opened && rows.iter().any(|(key, _)| Some(*key) == self.chosen);
        if is_there { rows.get(self.place(rows)).map(|(_, replica)| *replica) } else { None }
    }

    /// Takes a key; whether it was the one that ends.
    pub(super) fn press(&mut self, key: KeyEvent, fleet: &Fleet) -> bool {
        let rows = self.rows(fleet);
        let (place, last) = (self.place(&rows), rows.len().saturating_sub(1));
        let is_alone = self.alone(&rows).is_some();
        let step =
            |down: bool, by: usize, from: usize| if down { from.saturating_add(by) } else { from.saturating_sub(by) };
        let mut choose = |place: usize| self.chosen = rows.get(place.min(last)).map(|(key, _)| *key);
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Char('q') => return true,
            KeyCode::Char('?') => self.help = !self.help,
            _ if self.help => self.help = false,
            KeyCode::Esc => self.opened = false,
            KeyCode::Enter => {
                choose(place);
                (self.opened, self.scroll) = (true, 0);
            }
            KeyCode::Up | KeyCode::Char('k') if is_alone => self.scroll = step(false, 1, self.scroll),
            KeyCode::Down | KeyCode::Char('j') if is_alone => self.scroll = step(true, 1, self.scroll),
            KeyCode::PageUp if is_alone => self.scroll = step(false, PAGE, self.scroll),
            KeyCode::PageDown if is_alone => self.scroll = step(true, PAGE, self.scroll),
            KeyCode::Home if is_alone => self.scroll = 0,
            KeyCode::End if is_alone => self.scroll = usize::MAX,
            KeyCode::Left | KeyCode::BackTab if is_alone => {
                choose(step(false, 1, place));
                self.scroll = 0;
            }
            KeyCode::Right | KeyCode::Tab if is_alone => {
                choose(step(true, 1, place));
                self.scroll = 0;
            }
            KeyCode::Up | KeyCode::Char('k') => choose(step(false, 1, place)),
            KeyCode::Down | KeyCode::Char('j') => choose(step(true, 1, place)),
            KeyCode::PageUp => choose(step(false, PAGE, place)),
            KeyCode::PageDown => choose(step(true, PAGE, place)),
            KeyCode::Home => choose(0),
            KeyCode::End => choose(last),
            KeyCode::Char('i') => self.inverted = !self.inverted,
            KeyCode::Char(letter) => {
                if let Some((_, order, _)) = Order::ALL.into_iter().find(|(known, ..)| *known == letter) {
                    (self.order, self.inverted) = (order, false);
                }
            }
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::fleet::News;
    use crate::top::sample::{self, SECOND};

    /// Three that serve, with 1, 3 and 2 requests a second, and one that does not answer.
    fn fleet() -> Fleet {
        let mut fleet = Fleet::new(["pods:80".to_owned()].into_iter(), SECOND);
        let address = |last: u8| ([10, 0, 0, last], 80).into();
        fleet.hear(News::Found { name: 0, found: Ok((1..=4).map(address).collect()) }, SECOND);
        for (last, ok) in [(1, 1), (2, 3), (3, 2)] {
            for (state, now) in [(sample::busy(0), SECOND), (sample::busy(ok), 2 * SECOND)] {
                fleet.hear(News::Looked { address: address(last), found: Ok(Box::new(state)) }, now);
            }
        }
        fleet.hear(News::Looked { address: address(4), found: Err("connection refused".into()) }, 2 * SECOND);
        fleet
    }

    fn press(view: &mut View, fleet: &Fleet, code: KeyCode) -> bool {
        view.press(KeyEvent::new(code, KeyModifiers::NONE), fleet)
    }

    /// The last numbers of the addresses, from top to bottom.
    fn shown(view: &View, fleet: &Fleet) -> String {
        let names = view.rows(fleet).into_iter().map(|(_, replica)| replica.name.clone());
        names.map(|name| name.trim_start_matches("10.0.0.").trim_end_matches(":80").to_owned()).collect()
    }

    #[test]
    fn the_worst_is_first_unless_a_key_asks_for_another_order() {
        let (fleet, mut view) = (fleet(), View::new());
        assert_eq!(shown(&view, &fleet), "4123");
        for (key, expected) in
            [('n', "1234"), ('r', "2314"), ('i', "4132"), ('l', "1234"), ('u', "1234"), ('w', "4123")]
        {
            assert!(!press(&mut view, &fleet, KeyCode::Char(key)));
            assert_eq!(shown(&view, &fleet), expected, "{key}");
        }
    }

    #[test]
    fn the_choice_follows_its_replica_and_enter_opens_it() {
        let (fleet, mut view) = (fleet(), View::new());
        let alone = |view: &View| view.alone(&view.rows(&fleet)).map(|replica| replica.name.clone());
        assert_eq!(alone(&view), None);
        for code in [KeyCode::Down, KeyCode::Down, KeyCode::Char('r'), KeyCode::Enter] {
            press(&mut view, &fleet, code);
        }
        assert_eq!(alone(&view).as_deref(), Some("10.0.0.2:80"), "the third of the worst, the first of the busiest");
        press(&mut view, &fleet, KeyCode::Right);
        assert_eq!(alone(&view).as_deref(), Some("10.0.0.3:80"));
        for _ in 0..9 {
            press(&mut view, &fleet, KeyCode::Tab);
        }
        assert_eq!(alone(&view).as_deref(), Some("10.0.0.4:80"), "there is none behind the last");
        press(&mut view, &fleet, KeyCode::Esc);
        assert_eq!(alone(&view), None);
    }

    #[test]
    fn the_only_replica_is_shown_alone_and_one_that_leaves_is_not() {
        let mut fleet = Fleet::new(["a:80".to_owned()].into_iter(), SECOND);
        let mut view = View::new();
        assert!(view.alone(&view.rows(&fleet)).is_some());
        press(&mut view, &fleet, KeyCode::Esc);
        assert!(view.alone(&view.rows(&fleet)).is_some(), "there is nothing to go back to");
        press(&mut view, &fleet, KeyCode::Enter);
        let found = Ok(vec![([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], 80).into()]);
        fleet.hear(News::Found { name: 0, found }, SECOND);
        assert!(view.alone(&view.rows(&fleet)).is_none(), "what was opened has become two");
    }

    #[test]
    fn help_comes_and_goes_and_q_and_control_c_end() {
        let (fleet, mut view) = (fleet(), View::new());
        press(&mut view, &fleet, KeyCode::Char('?'));
        assert!(view.help);
        press(&mut view, &fleet, KeyCode::Esc);
        assert!(!view.help);
        assert!(!press(&mut view, &fleet, KeyCode::Char('c')));
        assert!(press(&mut view, &fleet, KeyCode::Char('q')));
        assert!(view.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), &fleet));
    }
}
