//! What a judge says, in numbers for programs and in sentences for people.

use std::fmt;

use serde::Serialize;

use super::tally::Share;
use super::window::Fault;

/// The answer to one look at a gate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    #[serde(flatten)]
    pub decision: Decision,
    /// Of a fail, what went wrong; of a pass, what was compared; of too little, what is lacking.
    pub reasons: Vec<Reason>,
    /// What did not decide, such as a pod of stable that has gone.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    Pass,
    Fail,
    /// Nothing bad was seen in what is too little to see it.
    TooLittle {
        /// About so many more requests to the canary's pods would be enough; none where no number would.
        more: Option<u64>,
    },
}

/// One reason, with both tracks' numbers where there are any.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reason {
    pub text: String,
    pub kind: Kind,
    /// None for all models together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Figure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stable: Option<Figure>,
    /// How probable as much, or more, would be by chance if both were the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Pod,
    Failed,
    Unserved,
    Rejected,
    Latency,
    Traffic,
}

/// `count` of `of` requests; of latency also the 99th percentile.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    pub count: u64,
    pub of: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_seconds: Option<f64>,
}

impl Verdict {
    pub fn is_pass(&self) -> bool {
        self.decision == Decision::Pass
    }

    pub fn is_fail(&self) -> bool {
        self.decision == Decision::Fail
    }
}

impl fmt::Display for Verdict {
    /// A line for the decision and one for each reason and note.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.decision {
            Decision::Pass => "pass",
            Decision::Fail => "fail",
            Decision::TooLittle { .. } => "too little to judge",
        })?;
        let reasons = self.reasons.iter().map(|reason| reason.text.as_str());
        for line in reasons.chain(self.notes.iter().map(String::as_str)) {
            write!(formatter, "\n  {line}")?;
        }
        Ok(())
    }
}

impl From<&Fault> for Reason {
    fn from(fault: &Fault) -> Self {
        let text = format!("canary: {fault}");
        Reason { text, kind: Kind::Pod, model: None, canary: None, stable: None, chance: None }
    }
}

impl From<Share> for Figure {
    fn from(share: Share) -> Self {
        Figure { count: share.count, of: share.of, p99_seconds: None }
    }
}
