//! Whatever a file holds, it is answered and not panicked at.

use std::panic;

use kubectl_torchpod::lint::{self, Format, Given};
use kubectl_torchpod::manifest::{Manifests, Source};

const MUTATIONS: usize = 1_000;
/// Values that fit somewhere and hurt elsewhere.
const VALUES: [&str; 14] = [
    "",
    "null",
    "-1",
    "0",
    "99999999999999999999",
    "1e400",
    "[]",
    "{}",
    "[null]",
    "\"\"",
    "yes",
    "150%",
    "&a [*a]",
    "{ä: \"\u{1F600}\"}",
];

const CHARACTERS: [char; 20] = [
    '{',
    '}',
    '[',
    ']',
    ':',
    ',',
    '-',
    '#',
    '&',
    '*',
    '!',
    '|',
    '>',
    '\'',
    '"',
    '%',
    '\0',
    '\t',
    '\u{e9}',
    '\u{1F600}',
];

fn originals() -> Vec<String> {
    let mut all: Vec<String> = lint::rules().flat_map(|rule| [rule.fails, rule.passes]).map(str::to_owned).collect();
    all.push(include_str!("../data/lesson/fragments-in-place.yaml").to_owned());
    all
}

fn mutated(original: &str, random: &mut fastrand::Rng) -> String {
    let mut lines: Vec<String> = original.lines().map(str::to_owned).collect();
    for _ in 0..random.usize(1..4) {
        let at = random.usize(0..lines.len());
        match random.u8(0..7) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[at].clone()),
            2 => lines[at].insert(0, ' '),
            3 => {
                if let Some(colon) = lines[at].find(": ") {
                    lines[at].truncate(colon + 2);
                    lines[at] += VALUES[random.usize(0..VALUES.len())];
                }
            }
            4 => {
                let other = random.usize(0..lines.len());
                lines.swap(at, other);
            }
            5 => {
                let place = lines[at].char_indices().map(|(place, _)| place).nth(random.usize(0..20)).unwrap_or(0);
                lines[at].insert(place, CHARACTERS[random.usize(0..CHARACTERS.len())]);
            }
            _ => lines.truncate(at.max(1)),
        }
        if lines.is_empty() {
            lines.push(String::new());
        }
    }
    lines.join("\n")
}

#[test]
fn a_thousand_mutated_manifests_never_panic() {
    let mut random = fastrand::Rng::with_seed(20_260_401);
    let originals = originals();
    let given = Given { load_time: Some(std::time::Duration::from_secs(45)), ..Given::default() };
    for round in 0..MUTATIONS {
        let text = mutated(&originals[random.usize(0..originals.len())], &mut random);
        let answered = panic::catch_unwind(|| {
            let manifests =
                Manifests::parse(vec![Source { name: "mutated.yaml".to_owned(), text: text.clone(), found: false }]);
            let findings = lint::check(&manifests, &given);
            [Format::Text, Format::Json, Format::Sarif]
                .map(|format| lint::write(format, &manifests, &findings, true).len())
        });
        assert!(answered.is_ok(), "round {round} panicked at:\n{text}");
    }
}
