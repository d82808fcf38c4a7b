//! Numbers as people read them.

use super::tally::Share;

/// `12 of 240 requests failed (5.0 %)`
pub(super) fn long(share: Share, model: Option<&str>, what: &str) -> String {
    format!("{} of {} {} {what} ({})", share.count, share.of, requests(model), percent(share.share()))
}

/// `3 of 2160 (0.1 %)`
pub(super) fn brief(share: Share) -> String {
    format!("{} of {} ({})", share.count, share.of, percent(share.share()))
}

pub(super) fn requests(model: Option<&str>) -> String {
    model.map_or_else(|| "requests".to_owned(), |model| format!("requests to {model}"))
}

/// With one decimal, or as many as a small share needs to differ from none.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        _ if percent <= 0.0 => "0 %".to_owned(),
        0.05.. => format!("{percent:.1} %"),
        0.0005.. => format!("{percent:.3} %"),
        _ => "below 0.001 %".to_owned(),
    }
}

/// In the unit that leaves few digits.
pub(super) fn time(seconds: f64) -> String {
    let (number, unit) = match seconds {
        1.0.. => (seconds, "s"),
        0.001.. => (seconds * 1e3, "ms"),
        _ => (seconds * 1e6, "µs"),
    };
    let digits = usize::from(number < 10.0 && (number - number.round()).abs() >= 0.05);
    format!("{number:.digits$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_shares_differ_from_none() {
        let table = [(0.0, "0 %"), (0.05, "5.0 %"), (3.0 / 2160.0, "0.1 %"), (1e-5, "0.001 %"), (1.0, "100.0 %")];
        for (share, text) in table.into_iter().chain([(1e-7, "below 0.001 %")]) {
            assert_eq!(percent(share), text);
        }
    }

    #[test]
    fn times_have_a_unit_that_fits() {
        for (seconds, text) in
            [(0.000_05, "50 µs"), (0.002_5, "2.5 ms"), (0.25, "250 ms"), (1.34, "1.3 s"), (30.0, "30 s")]
        {
            assert_eq!(time(seconds), text);
        }
    }
}
