//! What came of a load: every request is in it once.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A new connection for each request.
    Fresh,
    /// Connections that are kept.
    Kept,
    /// gRPC, on connections that are kept.
    Grpc,
}

#[derive(Clone, Debug, Default)]
pub struct Tally {
    sent: BTreeMap<Kind, usize>,
    answered: BTreeMap<Kind, usize>,
    pub lost: Vec<Lost>,
}

/// A request that was not answered with 200. Times are the cluster's.
#[derive(Clone, Debug)]
#[allow(dead_code)] // To be read where a test fails.
pub struct Lost {
    pub kind: Kind,
    pub sent: Duration,
    pub failed: Duration,
    /// None, where the rules had no pod to send it to.
    pub pod: Option<usize>,
    pub why: String,
}

impl Tally {
    pub(crate) fn count(&mut self, kind: Kind, result: Result<(), Lost>) {
        *self.sent.entry(kind).or_default() += 1;
        match result {
            Ok(()) => *self.answered.entry(kind).or_default() += 1,
            Err(lost) => self.lost.push(lost),
        }
    }

    /// How many were sent of the kind of which fewer were.
    pub fn least_sent(&self) -> usize {
        [Kind::Fresh, Kind::Kept, Kind::Grpc]
            .map(|kind| self.sent.get(&kind).copied().unwrap_or(0))
            .into_iter()
            .min()
            .unwrap_or(0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, sent) in &self.sent {
            let answered = self.answered.get(kind).copied().unwrap_or(0);
            write!(formatter, "{kind:?}: {sent} sent, {answered} answered, {} lost; ", sent - answered)?;
        }
        Ok(())
    }
}
