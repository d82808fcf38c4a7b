//! The columns of the table, on the screen and in plain text: what stands in each, and which of them have room. Pure.

use std::time::Duration;

use super::recent::Rates;
use super::replica::Replica;
use super::text;
use super::view::Order;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Name,
    Phase,
    Probes,
    Requests,
    Failures,
    P50,
    P99,
    Rows,
    Waiting,
    InFlight,
    Trend,
    Remark,
}

/// As they stand from left to right.
pub(super) const ALL: [Column; 12] = [
    Column::Name,
    Column::Phase,
    Column::Probes,
    Column::Requests,
    Column::Failures,
    Column::P50,
    Column::P99,
    Column::Rows,
    Column::Waiting,
    Column::InFlight,
    Column::Trend,
    Column::Remark,
];

/// Those that there may be no room for, the most important first.
const WISHES: [Column; 9] = [
    Column::Requests,
    Column::P99,
    Column::Probes,
    Column::Waiting,
    Column::Failures,
    Column::InFlight,
    Column::P50,
    Column::Trend,
    Column::Rows,
];

/// Between two columns.
pub(super) const GAP: usize = 2;
/// `no answer 12 min`.
const PHASE: usize = 16;
/// `connection refused`; on a narrow screen less, since who does not answer has the whole line for it.
const REMARK: [usize; 2] = [18, 10];
const NARROW: usize = 80;
/// How many seconds a row's trend shows.
pub(super) const TREND: usize = 16;

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

impl Column {
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Name => "REPLICA",
            Self::Phase => "PHASE",
            Self::Probes => "PROBES",
            Self::Requests => "REQ/S",
            Self::Failures => "FAIL/S",
            Self::P50 => "P50",
            Self::P99 => "P99",
            Self::Rows => "ROWS",
            Self::Waiting => "QUEUE",
            Self::InFlight => "FLIGHT",
            Self::Trend => "LAST 16 S",
            Self::Remark => "WHAT",
        }
    }

    fn width(self) -> usize {
        match self {
            Self::Phase => PHASE,
            Self::P50 | Self::P99 => 7,
            Self::Trend => TREND,
            Self::Rows => 5,
            _ => 6,
        }
    }

    pub(super) fn is_number(self) -> bool {
        !matches!(self, Self::Name | Self::Phase | Self::Probes | Self::Trend | Self::Remark)
    }

    /// The order that goes by it.
    pub(super) fn order(self) -> Option<Order> {
        match self {
            Self::Name => Some(Order::Name),
            Self::Phase => Some(Order::Worst),
            Self::Requests => Some(Order::Requests),
            Self::Failures => Some(Order::Failures),
            Self::P99 => Some(Order::Latency),
            Self::Waiting => Some(Order::Waiting),
            _ => None,
        }
    }

    pub(super) fn cell(self, replica: &Replica, now: Duration) -> String {
        let told = replica.state().filter(|_| replica.silence().is_none());
        let of = |tell: fn(&Rates) -> Option<String>| match (told, replica.rates()) {
            (Some(_), rates) => rates.and_then(tell).unwrap_or_else(|| "–".to_owned()),
            (None, _) => String::new(),
        };
        match self {
            Self::Name => text::plain(&replica.name),
            Self::Phase => {
                let (phase, seconds) = replica.phase(now);
                format!("{} {}", text::plain(phase), text::briefly(seconds))
            }
            Self::Probes => {
                let signs = told.map(|state| state.probes.iter().map(|probe| pass_sign(probe.passes())));
                signs.map(|signs| signs.collect::<Vec<_>>().join(" ")).unwrap_or_default()
            }
            Self::Requests => of(|rates| Some(text::number(rates.ok))),
            Self::Failures => of(|rates| Some(text::number(rates.failed))),
            Self::P50 => of(|rates| rates.p50.map(text::took)),
            Self::P99 => of(|rates| rates.p99.map(text::took)),
            Self::Rows => of(|rates| rates.rows_a_batch.map(text::number)),
            Self::Waiting => told.map(|state| text::count(state.waiting().0)).unwrap_or_default(),
            Self::InFlight => told.map(|state| text::count(state.in_flight)).unwrap_or_default(),
            Self::Trend => trend(&replica.recent.line(now, TREND, |rates| Some(rates.ok))),
            Self::Remark => text::plain(&replica.remark()),
        }
    }
}

pub(super) fn pass_sign(is_pass: bool) -> &'static str {
    if is_pass { "✔" } else { "✘" }
}

/// A line of bars; nothing where nothing is known.
fn trend(values: &[Option<f64>]) -> String {
    let most = values.iter().flatten().fold(0.0, |most: f64, value| most.max(*value));
    let bar = |value: &Option<f64>| match value {
        None => ' ',
        Some(value) if most > 0.0 => {
            let step = usize::try_from(text::whole(value / most * 7.0 + 0.5)).unwrap_or_default();
            BARS[step.min(BARS.len() - 1)]
        }
        Some(_) => BARS[0],
    };
    values.iter().map(bar).collect()
}

/// The columns that fit `width` and their widths, for names of up to `name` characters.
pub(super) fn fitting(width: usize, name: usize) -> Vec<(Column, usize)> {
    let name = name.clamp(Column::Name.title().len(), (width / 3).max(16));
    let least = REMARK[usize::from(width < NARROW)];
    let mut used = name + GAP + PHASE + GAP + least;
    let mut fits = vec![Column::Name, Column::Phase, Column::Remark];
    for column in WISHES {
        let more = column.width() + GAP;
        if used + more > width {
            break;
        }
        used += more;
        fits.push(column);
    }
    let remark = least + width.saturating_sub(used);
    let width = |column: Column| match column {
        Column::Name => name,
        Column::Remark => remark,
        other => other.width(),
    };
    ALL.into_iter().filter(|column| fits.contains(column)).map(|column| (column, width(column))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::sample::{self, SECOND};

    #[test]
    fn a_row_tells_what_happens_and_one_that_is_silent_only_why() {
        let mut replica = Replica::new("host:1".into(), SECOND);
        replica.looked(Ok(sample::busy(0)), SECOND, SECOND);
        replica.looked(Ok(sample::busy(20)), 2 * SECOND, SECOND);
        let row = |replica: &Replica| ALL.map(|column| column.cell(replica, 2 * SECOND));
        let expected =
            ["host:1", "serving 2 min", "✔ ✔ ✔", "20", "0", "9.2 ms", "9.98 ms", "2", "4", "3"].map(str::to_owned);
        assert_eq!(row(&replica)[..10], expected);
        assert_eq!(row(&replica)[10].trim_start(), "█");
        assert_eq!(row(&replica)[11], "digits@1");
        replica.looked(Err("connection refused".into()), 2 * SECOND, SECOND);
        let silent = row(&replica);
        assert_eq!([&silent[1], &silent[11]], ["no answer 0 s", "connection refused"]);
        assert!(silent[2..10].iter().all(String::is_empty), "{silent:?}");
    }

    #[test]
    fn what_matters_least_gives_way_and_nothing_is_wider_than_the_screen() {
        for width in 40..200 {
            let fits = fitting(width, 21);
            let sum: usize = fits.iter().map(|(_, width)| width + GAP).sum::<usize>() - GAP;
            assert!(sum == width || width < 60, "{width}: {sum}");
            let has = |column| fits.iter().any(|(known, _)| *known == column);
            assert!(has(Column::Phase) && has(Column::Remark) && (has(Column::Requests) || width < 60));
            assert!(has(Column::P99) || !has(Column::Probes));
            assert!(has(Column::Trend) || !has(Column::Rows));
        }
        assert_eq!(fitting(200, 21).len(), ALL.len());
    }

    #[test]
    fn a_trend_shows_the_shape_and_gaps() {
        assert_eq!(trend(&[None, Some(0.0), Some(5.0), Some(10.0)]), " ▁▅█");
        assert_eq!(trend(&[Some(0.0), None]), "▁ ");
    }
}
