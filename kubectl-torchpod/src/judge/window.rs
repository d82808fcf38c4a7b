//! What a track's pods did while one gate looked at them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::reading::{Counts, Reading};
use super::tally::Tally;

/// One pod in one round.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its `metadata.uid`: a pod that comes again under its name is another.
    pub uid: String,
    pub name: String,
    /// Its page, or why the pod did not give one. Where it was the API server that did not answer, leave the round out.
    pub page: Result<Reading, String>,
}

/// The pods of one track, from the first round on.
#[derive(Clone, Debug, Default)]
pub struct Window {
    pods: BTreeMap<String, Pod>,
    lost: Vec<Fault>,
    tally: Tally,
}

#[derive(Clone, Debug)]
struct Pod {
    name: String,
    last: Option<Reading>,
    silent: Option<String>,
}

/// What a pod must not do while it is looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub pod: String,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// Its counters went back.
    Restarted,
    /// It is no longer among the track's pods.
    Vanished,
    /// Its page could not be had in the last round.
    Silent(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { pod, what } = self;
        match what {
            What::Restarted => write!(formatter, "pod {pod} has restarted: its counters went back"),
            What::Vanished => write!(formatter, "pod {pod} has vanished"),
            What::Silent(why) => write!(formatter, "pod {pod} cannot be read: {why}"),
        }
    }
}

impl Window {
    /// All pods of the track now. Between two rounds lies one slice of time: let it be longer than a stall that may
    /// happen to any pod, such as 5 s, and let a gate have a dozen or more.
    ///
    /// A pod that comes in the middle counts from its first page on. One that is not among `pods` any more has vanished.
    pub fn round(&mut self, pods: impl IntoIterator<Item = Seen>) {
        let mut present = BTreeSet::new();
        let mut slices = Vec::new();
        for seen in pods {
            present.insert(seen.uid.clone());
            slices.extend(self.see(seen));
        }
        self.tally.round(&slices.iter().map(|slice| by_model(slice)).collect::<Vec<_>>());
        let gone: Vec<String> = self.pods.keys().filter(|uid| !present.contains(*uid)).cloned().collect();
        for uid in gone {
            if let Some(pod) = self.pods.remove(&uid) {
                self.lost.push(Fault { pod: pod.name, what: What::Vanished });
            }
        }
    }

    /// What has happened up to now.
    pub fn tally(&self) -> Tally {
        let silent = self.pods.values().filter_map(|pod| {
            let why = pod.silent.clone()?;
            Some(Fault { pod: pod.name.clone(), what: What::Silent(why) })
        });
        let faults = self.lost.iter().cloned().chain(silent).collect();
        Tally { faults, pods: self.pods.len(), ..self.tally.clone() }
    }

    /// What the pod did since it was last seen.
    fn see(&mut self, seen: Seen) -> Option<Reading> {
        let Seen { uid, name, page } = seen;
        let pod = self.pods.entry(uid).or_insert_with(|| Pod { name, last: None, silent: None });
        let page = match page {
            Ok(page) => page,
            Err(why) => {
                pod.silent = Some(why);
                return None;
            }
        };
        pod.silent = None;
        let slice = pod.last.as_ref().map(|before| page.since(before));
        pod.last = Some(page);
        let slice = slice?;
        if slice.is_none() {
            self.lost.push(Fault { pod: pod.name.clone(), what: What::Restarted });
        }
        slice
    }
}

/// All versions of a model together.
fn by_model(slice: &Reading) -> BTreeMap<&str, Counts> {
    let mut models: BTreeMap<&str, Counts> = BTreeMap::new();
    for ((model, _), counts) in &slice.series {
        let sum = models.remove(model.as_str()).unwrap_or_default();
        models.insert(model, sum.plus(counts));
    }
    models
}
