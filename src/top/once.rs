//! `torchpod top --once`: one table in plain text, a line a replica, for files, pipes and scripts.

use std::io::{self, Write as _};
use std::time::Duration;

use super::Asked;
use super::column::{ALL, Column, GAP};
use super::fleet::Fleet;
use super::view::View;
use super::watch::Watch;

/// Looks, prints, and returns whether everybody answered.
pub(super) async fn run(asked: &Asked) -> bool {
    let (mut watch, mut fleet) = (Watch::new(asked), asked.fleet());
    while !fleet.is_told() {
        watch.hear(&mut fleet).await;
    }
    // A closed stdout does not change what was seen.
    let _ = io::stdout().write_all(table(&fleet, watch.now()).as_bytes());
    fleet.answers()
}

/// Each column as wide as its longest cell; what is said in words stands last, whole.
fn table(fleet: &Fleet, now: Duration) -> String {
    let columns: Vec<Column> = ALL.into_iter().filter(|column| *column != Column::Trend).collect();
    let mut lines = vec![columns.iter().map(|column| column.title().to_owned()).collect::<Vec<_>>()];
    let rows = View::new().rows(fleet);
    lines.extend(rows.iter().map(|(_, replica)| columns.iter().map(|column| column.cell(replica, now)).collect()));
    let width = |index: usize| lines.iter().map(|cells| cells[index].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for cells in &lines {
        let cells = cells.iter().zip(&widths).zip(&columns).map(|((cell, width), column)| {
            let width = *width;
            if column.is_number() { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        let line = cells.collect::<Vec<_>>().join(&" ".repeat(GAP));
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::fleet::News;
    use crate::top::sample::{self, SECOND};

    #[test]
    fn every_replica_is_a_line_below_its_titles_the_worst_first() {
        let mut fleet = Fleet::new(["pods:80".to_owned(), "nowhere:1".to_owned()].into_iter(), SECOND);
        let address = |last: u8| ([10, 0, 0, last], 80).into();
        fleet.hear(News::Found { name: 0, found: Ok(vec![address(1), address(2)]) }, SECOND);
        fleet.hear(News::Found { name: 1, found: Err("cannot resolve nowhere".into()) }, SECOND);
        for (ok, now) in [(0, SECOND), (20, 2 * SECOND)] {
            fleet.hear(News::Looked { address: address(1), found: Ok(Box::new(sample::busy(ok))) }, now);
            let found = Ok(Box::new(sample::down("redis://a:1\u{1b}")));
            fleet.hear(News::Looked { address: address(2), found }, now);
        }
        assert_eq!(
            table(&fleet, 3 * SECOND),
            "\
REPLICA      PHASE          PROBES  REQ/S  FAIL/S     P50      P99  ROWS  QUEUE  FLIGHT  WHAT
nowhere:1    no answer 2 s                                                               cannot resolve nowhere
10.0.0.2:80  serving 2 min  ✔ ✔ ✘       0       0       –        –     –      4       3  down: redis://a:1
10.0.0.1:80  serving 2 min  ✔ ✔ ✔      20       0  9.2 ms  9.98 ms     2      4       3  digits@1
"
        );
    }
}
