//! When a dependency changes between up and down: only after several results in a row say so. Pure.

use super::Pace;

/// Starts down: what has not been checked yet is not relied on.
pub(super) struct Hysteresis {
    pace: Pace,
    up: bool,
    /// How many results in a row spoke against `up`.
    against: u32,
}

impl Hysteresis {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, up: false, against: 0 }
    }

    /// Takes a result in, and says where it is now if that has changed.
    pub(super) fn record(&mut self, passed: bool) -> Option<bool> {
        if passed == self.up {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if self.up { self.pace.failures } else { self.pace.successes };
        if self.against < needed {
            return None;
        }
        self.against = 0;
        self.up = passed;
        Some(self.up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The changes that `results` (`+` passed, `-` failed) cause: `U` up, `D` down, `.` none.
    fn changes(failures: u32, successes: u32, results: &str) -> String {
        let mut hysteresis = Hysteresis::new(Pace { failures, successes, ..Pace::default() });
        let changes = results.chars().map(|result| hysteresis.record(result == '+'));
        changes.map(|change| change.map_or('.', |up| if up { 'U' } else { 'D' })).collect()
    }

    #[test]
    fn it_changes_only_after_enough_results_in_a_row() {
        // failures, successes, results, changes
        let table = [
            (3, 1, "+", "U"),
            (3, 1, "---", "..."),
            (3, 1, "+---", "U..D"),
            (3, 1, "+--+--+---", "U........D"),
            (3, 1, "+---+", "U..DU"),
            (3, 1, "+------+", "U..D...U"),
            (1, 1, "+-+-", "UDUD"),
            (2, 3, "++-+++--++-+++", ".....U.D.....U"),
        ];
        for (failures, successes, results, expected) in table {
            assert_eq!(changes(failures, successes, results), expected, "{results}");
        }
    }
}
