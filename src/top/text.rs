//! Numbers and times in words, as the console has them. Pure.

/// 3 digits: more would be noise.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    if value.abs() >= 99.95 {
        return grouped(&format!("{value:.0}"));
    }
    if value == 0.0 {
        return "0".to_owned();
    }
    let text = match value.abs() {
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A count, with commas between its thousands.
pub(super) fn count(value: u64) -> String {
    grouped(&value.to_string())
}

fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (place, digit) in digits.char_indices() {
        let left = digits.len() - place;
        if left.is_multiple_of(3) && place > 0 && text != "-" {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and what is counted.
pub(super) fn counted(value: u64, word: &str) -> String {
    let ending = match word {
        _ if value == 1 => "",
        "batch" => "es",
        _ => "s",
    };
    format!("{} {word}{ending}", count(value))
}

/// A time that something takes.
pub(super) fn took(seconds: f64) -> String {
    match seconds {
        _ if seconds < 0.000_999_5 => format!("{} µs", number(seconds * 1e6)),
        _ if seconds < 0.9995 => format!("{} ms", number(seconds * 1e3)),
        _ => format!("{} s", number(seconds)),
    }
}

const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];

/// A time that something has lasted, in two units.
pub(super) fn lasted(seconds: f64) -> String {
    if seconds < 1.0 {
        return took(seconds.max(0.0));
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let whole = whole(seconds);
    let first = UNITS.iter().position(|(unit, _)| whole >= *unit).unwrap_or(UNITS.len() - 1);
    let mut rest = whole;
    let mut parts = Vec::new();
    for (unit, name) in UNITS.iter().skip(first).take(2) {
        parts.extend((rest >= *unit).then(|| format!("{} {name}", rest / unit)));
        rest %= unit;
    }
    parts.join(" ")
}

/// The same in one unit, where there is little room: whole seconds, which do not flicker.
pub(super) fn briefly(seconds: f64) -> String {
    let whole = whole(seconds);
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| whole >= *unit).unwrap_or((1, "s"));
    format!("{} {name}", whole / unit)
}

pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut power = 0;
    let mut size = real(count);
    while size >= 1024.0 && power < UNITS.len() - 1 {
        size /= 1024.0;
        power += 1;
    }
    format!("{} {}", number(size), UNITS[power])
}

pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", (share * 100.0).floor())
}

/// What somebody else has written, on one line and without what a terminal would obey.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Counts beyond 2^53 lose their last digit, which nobody sees.
#[allow(clippy::cast_precision_loss)]
pub(super) fn real(count: u64) -> f64 {
    count as f64
}

/// Below 0 is 0.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `as` stops at the ends.
pub(super) fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_thousands_their_commas() {
        let table = [
            (0.0, "0"),
            (0.1234, "0.123"),
            (1.0, "1"),
            (1.239, "1.24"),
            (12.34, "12.3"),
            (99.94, "99.9"),
            (99.96, "100"),
            (1_234.5, "1,234"),
            (1e6, "1,000,000"),
            (-1234.0, "-1,234"),
            (f64::NAN, "–"),
        ];
        for (value, expected) in table {
            assert_eq!(number(value), expected);
        }
        assert_eq!(
            [counted(1, "batch"), counted(0, "batch"), counted(1_000, "row")],
            ["1 batch", "0 batches", "1,000 rows"]
        );
    }

    #[test]
    fn times_are_told_in_the_units_that_fit_them() {
        let table = [(0.0, "0 µs"), (12e-6, "12 µs"), (0.0032, "3.2 ms"), (0.9999, "1 s"), (2.5, "2.5 s")];
        for (seconds, expected) in table {
            assert_eq!(took(seconds), expected);
        }
        let table = [
            (0.004, "4 ms", "0 s"),
            (3.25, "3.2 s", "3 s"),
            (59.9, "59 s", "59 s"),
            (60.0, "1 min", "1 min"),
            (123.0, "2 min 3 s", "2 min"),
            (7_260.0, "2 h 1 min", "2 h"),
            (90_000.0, "1 d 1 h", "1 d"),
        ];
        for (seconds, long, short) in table {
            assert_eq!((lasted(seconds).as_str(), briefly(seconds).as_str()), (long, short));
        }
    }

    #[test]
    fn bytes_and_shares_are_rounded_down_to_what_is_there() {
        assert_eq!([bytes(0), bytes(1536), bytes(1 << 30)], ["0 B", "1.5 KiB", "1 GiB"]);
        assert_eq!([percent(0.999), percent(0.42)], ["99 %", "42 %"]);
    }

    #[test]
    fn what_others_wrote_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc\u{9b}d"), "a [2Jb c d");
    }
}
