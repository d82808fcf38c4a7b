//! What happens next: a queue of events by time, and of those at the same time by the order in which they were planned.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    User(usize),
    /// The Deployment controller begins to look at a Deployment.
    SyncDeployment(usize),
    /// A new size is written.
    Resize { deployment: usize, template: u32, size: i32 },
    DeploymentDone(usize),
    DeadlineCheck(usize),
    SyncSet(usize),
    SetDone(usize),
    Create(usize),
    Delete(usize),
    Schedule(usize),
    /// The next container on a node starts, unless another pod has changed the time of that since.
    Start { node: usize, plan: u32 },
    Probed(usize),
    Ready(usize),
    Available(usize),
    Killed(usize),
    Exit(usize),
    Finished(usize),
    Gone(usize),
    Evict(usize),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    count: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at: Duration, event: Event) {
        self.count += 1;
        self.heap.push(Reverse((at, self.count, event)));
    }

    pub(super) fn pop(&mut self) -> Option<(Duration, Event)> {
        self.heap.pop().map(|Reverse((at, _, event))| (at, event))
    }
}

/// A controller's work on one object: never twice at once, and once more where something changed meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Work {
    #[default]
    Idle,
    Due,
    Busy,
    Again,
}

impl Work {
    /// Something changed. Whether a beginning has to be planned.
    pub(super) fn wake(&mut self) -> bool {
        let before = *self;
        *self = match before {
            Work::Idle | Work::Due => Work::Due,
            Work::Busy | Work::Again => Work::Again,
        };
        before == Work::Idle
    }

    /// Done. Whether it has to begin again.
    pub(super) fn end(&mut self) -> bool {
        let again = *self == Work::Again;
        *self = if again { Work::Due } else { Work::Idle };
        again
    }
}
