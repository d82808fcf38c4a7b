//! What is remembered of a canary, and where: annotations of the canary's Deployment, so that whoever starts again goes
//! on from there, and `kubectl describe` shows it.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::jiff::Timestamp;

use super::step::{Shares, Sizes};

type Annotations = BTreeMap<String, String>;

/// Everything that is known of a canary but what can be seen of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub phase: Phase,
    pub container: String,
    pub old: String,
    pub new: String,
    pub shares: Shares,
    /// How many pods serve at any time, and how many stable ones there are in the end.
    pub total: i32,
    pub before: Sizes,
    pub started: Timestamp,
    /// What the last gate said.
    pub verdict: Option<String>,
    /// What stable's pods did in the last gate, for when none of them is left: a `judge::Tally`, as JSON.
    pub numbers: Option<String>,
    /// Why it goes back, or went.
    pub reason: Option<String>,
}

// ## Stepping { 10 } => … => Stepping { 100 } => Promoting => Promoted
// ## Stepping | Promoting | Promoted => Returning => TakenBack
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The canary gets this share, or has it and is judged.
    Stepping {
        percent: u32,
    },
    /// Every gate was passed, and stable takes the new image.
    Promoting,
    Promoted,
    /// Stable comes back, and then the canary leaves.
    Returning,
    TakenBack,
}

/// An annotation that none of ours would have written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "annotation {key}: {value:?} is not what this program writes; take all torchpod.dev/ annotations away to begin anew"
)]
pub struct Unreadable {
    key: &'static str,
    value: String,
}

const PHASE: &str = "torchpod.dev/phase";
const STEP: &str = "torchpod.dev/step";
const STEPS: &str = "torchpod.dev/steps";
const CONTAINER: &str = "torchpod.dev/container";
const OLD: &str = "torchpod.dev/image-old";
const NEW: &str = "torchpod.dev/image-new";
const TOTAL: &str = "torchpod.dev/pods";
const BEFORE: &str = "torchpod.dev/pods-before";
const STARTED: &str = "torchpod.dev/started-at";
const VERDICT: &str = "torchpod.dev/verdict";
const NUMBERS: &str = "torchpod.dev/stable-numbers";
const REASON: &str = "torchpod.dev/reason";
/// When this program last changed the Deployment that has it.
pub const MOVED: &str = "torchpod.dev/moved-at";
/// Where `kubectl rollout history` looks.
pub const CAUSE: &str = "kubernetes.io/change-cause";

impl Record {
    /// What a Deployment's annotations say; nothing, where no canary was ever run on it.
    pub fn read(annotations: &Annotations) -> Result<Option<Record>, Unreadable> {
        let Some(phase) = annotations.get(PHASE) else { return Ok(None) };
        let phase = match phase.as_str() {
            "stepping" => Phase::Stepping { percent: parsed(annotations, STEP)? },
            "promoting" => Phase::Promoting,
            "promoted" => Phase::Promoted,
            "returning" => Phase::Returning,
            "taken-back" => Phase::TakenBack,
            _ => return Err(Unreadable { key: PHASE, value: phase.clone() }),
        };
        let text = |key: &'static str| annotations.get(key).cloned().ok_or(Unreadable { key, value: String::new() });
        let before = text(BEFORE)?;
        let sizes = before
            .split_once('+')
            .and_then(|(stable, canary)| Some(Sizes { stable: stable.parse().ok()?, canary: canary.parse().ok()? }));
        Ok(Some(Record {
            phase,
            container: text(CONTAINER)?,
            old: text(OLD)?,
            new: text(NEW)?,
            shares: parsed(annotations, STEPS)?,
            total: parsed(annotations, TOTAL)?,
            before: sizes.ok_or(Unreadable { key: BEFORE, value: before })?,
            started: parsed(annotations, STARTED)?,
            verdict: annotations.get(VERDICT).cloned(),
            numbers: annotations.get(NUMBERS).cloned(),
            reason: annotations.get(REASON).cloned(),
        }))
    }

    /// All annotations that say it; those without a value have to go.
    pub fn annotations(&self) -> BTreeMap<&'static str, Option<String>> {
        let percent = match self.phase {
            Phase::Stepping { percent } => Some(percent.to_string()),
            _ => None,
        };
        BTreeMap::from([
            (PHASE, Some(self.phase.to_string())),
            (STEP, percent),
            (STEPS, Some(self.shares.to_string())),
            (CONTAINER, Some(self.container.clone())),
            (OLD, Some(self.old.clone())),
            (NEW, Some(self.new.clone())),
            (TOTAL, Some(self.total.to_string())),
            (BEFORE, Some(format!("{}+{}", self.before.stable, self.before.canary))),
            (STARTED, Some(format!("{:.0}", self.started))),
            (VERDICT, self.verdict.clone()),
            (NUMBERS, self.numbers.clone()),
            (REASON, self.reason.clone()),
        ])
    }
}

impl Phase {
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Promoted | Phase::TakenBack)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Phase::Stepping { .. } => "stepping",
            Phase::Promoting => "promoting",
            Phase::Promoted => "promoted",
            Phase::Returning => "returning",
            Phase::TakenBack => "taken-back",
        })
    }
}

fn parsed<T: std::str::FromStr>(annotations: &Annotations, key: &'static str) -> Result<T, Unreadable> {
    let value = annotations.get(key).map_or("", String::as_str);
    value.parse().map_err(|_| Unreadable { key, value: value.to_owned() })
}

/// When a Deployment was last changed by this program, as far as it tells.
pub fn moved_at(annotations: &Annotations) -> Option<Timestamp> {
    annotations.get(MOVED)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(phase: Phase) -> Record {
        Record {
            phase,
            container: "model".to_owned(),
            old: "torchpod:0.1.0".to_owned(),
            new: "registry.example.com/ml/torchpod:2.1.0".to_owned(),
            shares: "10,100".parse().unwrap(),
            total: 10,
            before: Sizes { stable: 9, canary: 1 },
            started: "2026-03-01T10:00:00Z".parse().unwrap(),
            verdict: Some("no worse".to_owned()),
            numbers: None,
            reason: None,
        }
    }

    fn kept(record: &Record) -> Annotations {
        let annotations = record.annotations().into_iter();
        annotations.filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
    }

    #[test]
    fn what_was_written_is_read_again() {
        for phase in
            [Phase::Stepping { percent: 10 }, Phase::Promoting, Phase::Promoted, Phase::Returning, Phase::TakenBack]
        {
            assert_eq!(Record::read(&kept(&record(phase))), Ok(Some(record(phase))));
        }
        assert_eq!(Record::read(&Annotations::new()), Ok(None));
    }

    #[test]
    fn what_nobody_wrote_is_named() {
        for (key, value) in
            [(PHASE, "dancing"), (STEP, "ten"), (STEPS, "50,25"), (TOTAL, ""), (BEFORE, "9"), (STARTED, "yesterday")]
        {
            let mut annotations = kept(&record(Phase::Stepping { percent: 10 }));
            annotations.insert(key.to_owned(), value.to_owned());
            let said = Record::read(&annotations).unwrap_err().to_string();
            assert!(said.starts_with(&format!("annotation {key}: {value:?}")), "{said}");
        }
    }
}
