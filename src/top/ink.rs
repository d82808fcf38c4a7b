//! What colours mean: green is well, yellow gets no requests, red will not get well by itself, blue is on its way. Each
//! says what a sign or a word says, too, so that nothing is lost where `NO_COLOR` is set. Pure.

use ratatui::style::{Color, Modifier, Style};

use super::replica::Condition;

#[derive(Clone, Copy, Debug)]
pub(super) struct Ink {
    pub(super) colored: bool,
}

impl Ink {
    /// As <https://no-color.org> has it.
    pub(super) fn new(variable: impl Fn(&str) -> Option<String>) -> Self {
        Self { colored: variable("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    fn of(self, color: Color) -> Style {
        if self.colored { Style::new().fg(color) } else { Style::new() }
    }

    pub(super) fn good(self) -> Style {
        self.of(Color::Green)
    }

    pub(super) fn wait(self) -> Style {
        self.of(Color::Yellow)
    }

    pub(super) fn bad(self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(super) fn rising(self) -> Style {
        self.of(Color::Cyan)
    }

    pub(super) fn pass(self, is_pass: bool) -> Style {
        if is_pass { self.good() } else { self.bad() }
    }

    pub(super) fn condition(self, condition: Condition) -> Style {
        match condition {
            Condition::Silent | Condition::Failed | Condition::Faulty => self.bad(),
            Condition::Unready | Condition::Draining => self.wait(),
            Condition::Rising => self.rising(),
            Condition::Ended | Condition::Asked => quiet(),
            Condition::Ready => self.good(),
        }
    }
}

pub(super) fn quiet() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

pub(super) fn strong() -> Style {
    Style::new().add_modifier(Modifier::BOLD)
}

pub(super) fn title() -> Style {
    strong().add_modifier(Modifier::UNDERLINED)
}

pub(super) fn chosen() -> Style {
    Style::new().add_modifier(Modifier::REVERSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_has_a_colour_where_nobody_wants_one() {
        let ink =
            |value: Option<&str>| Ink::new(|name| (name == "NO_COLOR").then_some(value).flatten().map(str::to_owned));
        assert!(ink(None).colored && ink(Some("")).colored && !ink(Some("1")).colored);
        for condition in Condition::ALL {
            assert_eq!(ink(Some("1")).condition(condition).fg, None, "{condition:?}");
        }
    }
}
