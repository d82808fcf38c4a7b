//! What a plain scalar means to Kubernetes, whose parser reads YAML 1.1: `yes` and `on` are booleans there, and `0644`
//! is octal. A quoted scalar is a text, whatever it says.

use serde_json::Number;

use super::node::Value;

pub(super) fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Value::Bool(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Value::Bool(false),
        _ => number(text).map_or_else(|| Value::Text(text.to_owned()), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    // Texts such as `inf` are numbers to Rust and names to everybody else.
    let first = text.trim_start_matches(['+', '-']).chars().next()?;
    if !(first.is_ascii_digit() || first == '.') {
        return None;
    }
    whole(text).or_else(|| text.parse::<f64>().ok().and_then(Number::from_f64))
}

fn whole(text: &str) -> Option<Number> {
    let digits = text.replace('_', "");
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(&digits)),
    };
    let radix = |prefix: &str, radix| digits.strip_prefix(prefix).map(|rest| i64::from_str_radix(rest, radix));
    let octal = || (digits.len() > 1).then(|| radix("0", 8)).flatten();
    let value = radix("0x", 16).or_else(|| radix("0o", 8)).or_else(|| radix("0b", 2)).or_else(octal);
    let value = value.unwrap_or_else(|| digits.parse()).ok()?;
    Some(if negative { value.checked_neg()?.into() } else { value.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_read_as_kubernetes_reads_them() {
        let text = |text: &str| Value::Text(text.to_owned());
        let table = [
            ("yes", Value::Bool(true)),
            ("off", Value::Bool(false)),
            ("~", Value::Null),
            ("8080", Value::Number(8080.into())),
            ("-3", Value::Number((-3).into())),
            ("0644", Value::Number(420.into())),
            ("0x10", Value::Number(16.into())),
            ("0.5", Value::Number(Number::from_f64(0.5).unwrap())),
            ("1.2.3", text("1.2.3")),
            ("100m", text("100m")),
            ("-", text("-")),
            ("inf", text("inf")),
            ("25%", text("25%")),
        ];
        for (written, read) in table {
            assert_eq!(plain(written), read, "{written}");
        }
    }
}
