//! Prometheus' text format, as far as a pod's `/metrics` needs it: a line is a name, labels and a number. Our own,
//! since the one crate that reads it under a licence of ours takes a comma or a brace inside a label for its end, and
//! passes over what it cannot read.

use std::num::ParseFloatError;

/// A line that is no comment.
#[derive(Debug, PartialEq)]
pub(super) struct Sample<'a> {
    pub(super) name: &'a str,
    pub(super) labels: Vec<(&'a str, String)>,
    pub(super) value: f64,
}

#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a label without an end")]
    Label,
    #[error("no number: {0}")]
    Number(#[from] ParseFloatError),
}

impl Sample<'_> {
    /// Empty where there is no such label, as Prometheus has it.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(label, _)| *label == name).map_or("", |(_, value)| value)
    }
}

/// None for empty lines and comments.
pub(super) fn sample(line: &str) -> Result<Option<Sample<'_>>, Malformed> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let end = line.find(|c: char| c == '{' || c.is_whitespace()).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.trim_start().strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    // A timestamp may follow.
    let value = rest.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(Some(Sample { name, labels, value }))
}

/// Labels up to the closing brace, and what follows it.
#[allow(clippy::type_complexity)] // A pair of what is read and what is left.
fn labels(mut rest: &str) -> Result<(Vec<(&str, String)>, &str), Malformed> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = rest.split_once("=\"").ok_or(Malformed::Label)?;
        let (value, after) = quoted(after)?;
        labels.push((name.trim(), value));
        rest = after;
    }
}

/// A label's value up to its closing quote, and what follows it.
fn quoted(text: &str) -> Result<(String, &str), Malformed> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((index, char)) = chars.next() {
        match char {
            '"' => return Ok((value, &text[index + 1..])),
            '\\' => match chars.next().ok_or(Malformed::Label)?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            other => value.push(other),
        }
    }
    Err(Malformed::Label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_may_hold_what_elsewhere_ends_it() {
        let line = r#"asked_total{model="a,b}c\"d\\e\nf",outcome="ok"} 12 1700000000000"#;
        let sample = sample(line).unwrap().unwrap();
        assert_eq!((sample.name, sample.value), ("asked_total", 12.0));
        assert_eq!((sample.label("model"), sample.label("outcome")), ("a,b}c\"d\\e\nf", "ok"));
    }

    #[test]
    fn what_can_be_read_is_read() {
        let table = [
            ("up 1", 1.0),
            ("up{} 1", 1.0),
            ("up{a=\"b\",} 1.5e+06", 1.5e6),
            ("  up { a=\"b\" } 7", 7.0),
            ("up +Inf", f64::INFINITY),
        ];
        for (line, value) in table {
            let sample = sample(line).unwrap().unwrap();
            assert_eq!((sample.name, sample.value), ("up", value), "{line}");
        }
        for line in ["", "   ", "# HELP up Whether", "# TYPE up gauge"] {
            assert_eq!(sample(line), Ok(None), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for line in ["up", "up much", "up{a=\"b} 1", "up{a} 1", "up{a=\"b\" 1", "<html>", "up{a=\"\\"] {
            assert!(sample(line).is_err(), "{line}");
        }
    }
}
