//! How often each probe was answered, and how.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Probe;

/// For each probe, those that failed and those that passed.
#[derive(Default)]
pub(super) struct Answers([[AtomicU64; 2]; Probe::ALL.len()]);

impl Answers {
    pub(super) fn count(&self, probe: Probe, pass: bool) {
        self.0[probe as usize][usize::from(pass)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Vec<(&'static str, &'static str, u64)> {
        let verdicts = ["fail", "pass"].into_iter().enumerate();
        let all = Probe::ALL.into_iter().flat_map(|probe| verdicts.clone().map(move |verdict| (probe, verdict)));
        all.map(|(probe, (pass, verdict))| {
            (probe.name(), verdict, self.0[probe as usize][pass].load(Ordering::Relaxed))
        })
        .collect()
    }
}
