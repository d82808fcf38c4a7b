//! Amounts such as `500m`, `16Gi` and `2`, exactly.

use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource;

/// Billionths, the smallest part that Kubernetes knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i128);

const UNIT: i128 = 1_000_000_000;

impl Quantity {
    /// None, where an API server would refuse it or it is out of all proportion.
    pub fn parse(text: &str) -> Option<Quantity> {
        let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let negative = whole.starts_with('-');
        let digits = whole.trim_start_matches(['+', '-']);
        let billionths: String = part.chars().chain(std::iter::repeat('0')).take(9).collect();
        let whole: i128 = if digits.is_empty() && !part.is_empty() { 0 } else { digits.parse().ok()? };
        let value = whole.checked_mul(UNIT)?.checked_add(billionths.parse().ok()?)?;
        let value = scale(value, suffix)?;
        Some(Quantity(if negative { -value } else { value }))
    }

    pub fn of(quantity: &resource::Quantity) -> Option<Quantity> {
        Quantity::parse(&quantity.0)
    }

    #[must_use]
    pub fn times(self, count: i32) -> Quantity {
        Quantity(self.0.saturating_mul(i128::from(count)))
    }

    #[must_use]
    pub fn plus(self, other: Quantity) -> Quantity {
        Quantity(self.0.saturating_add(other.0))
    }

    pub fn billionths(self) -> i128 {
        self.0
    }

    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

fn scale(value: i128, suffix: &str) -> Option<i128> {
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter().position(|known| *known == suffix);
    if let Some(place) = binary {
        return value.checked_mul(1 << (10 * (place + 1)));
    }
    let power = match suffix {
        "n" => -9,
        "u" => -6,
        "m" => -3,
        "" => 0,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        _ => suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?,
    };
    let factor = 10_i128.checked_pow(power.unsigned_abs())?;
    if power < 0 { Some(value / factor) } else { value.checked_mul(factor) }
}

impl fmt::Display for Quantity {
    /// In the largest unit that leaves a whole number.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 % UNIT != 0 {
            return write!(formatter, "{}m", self.0 / 1_000_000);
        }
        let whole = self.0 / UNIT;
        let units = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)];
        let unit = units.iter().find(|(_, shift)| whole != 0 && whole % (1_i128 << shift) == 0);
        match unit {
            Some((unit, shift)) => write!(formatter, "{}{unit}", whole >> shift),
            None => write!(formatter, "{whole}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_amount_is_equal_however_it_is_written() {
        for (one, other) in
            [("1", "1000m"), ("1Gi", "1024Mi"), ("0.5", "500m"), ("1e3", "1k"), ("2.5Gi", "2560Mi"), (".5", "0.5")]
        {
            assert_eq!(Quantity::parse(one).unwrap(), Quantity::parse(other).unwrap(), "{one}, {other}");
        }
    }

    #[test]
    fn what_is_no_amount_is_none() {
        for text in ["", "1GB", "much", "1.2.3", "9e99", "1 Gi"] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn amounts_are_shown_in_a_unit_that_fits() {
        for text in ["500m", "16Gi", "3", "128Mi", "0"] {
            assert_eq!(Quantity::parse(text).unwrap().to_string(), text);
        }
    }
}
