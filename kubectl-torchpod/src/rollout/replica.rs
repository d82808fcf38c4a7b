//! The ReplicaSet controller's choice: which pods go first, when there are too many.

use std::cmp::Reverse;
use std::time::Duration;

/// A pod that may go, as far as the choice needs it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<Id> {
    pub id: Id,
    pub scheduled: bool,
    pub running: bool,
    pub ready_since: Option<Duration>,
    /// Pods of the same Deployment on its node, itself included.
    pub neighbours: u32,
    pub restarts: u32,
    pub created: Duration,
}

/// Those to delete, the first first: without a node, not running, not ready, crowded, ready for the shortest time, most
/// often restarted, youngest. (Real ages are compared by their logarithm, so that among pods of about one age chance
/// decides.)
pub fn victims<Id: Copy>(mut all: Vec<Candidate<Id>>, count: usize) -> Vec<Id> {
    let order = |pod: &Candidate<Id>| {
        let (crowded, since) = (Reverse(pod.neighbours), Reverse(pod.ready_since));
        let is_ready = pod.ready_since.is_some();
        (pod.scheduled, pod.running, is_ready, crowded, since, Reverse(pod.restarts), Reverse(pod.created))
    };
    if count < all.len() && count > 0 {
        all.select_nth_unstable_by_key(count - 1, order);
    }
    all.truncate(count);
    all.sort_by_key(order);
    all.into_iter().map(|pod| pod.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(id: u32, ready: Option<u64>) -> Candidate<u32> {
        let created = Duration::from_secs(u64::from(id));
        let ready_since = ready.map(Duration::from_secs);
        Candidate { id, scheduled: true, running: true, ready_since, neighbours: 1, restarts: 0, created }
    }

    #[test]
    fn pods_that_serve_nobody_go_first_and_then_the_youngest() {
        let unscheduled = Candidate { scheduled: false, running: false, ..pod(1, None) };
        let starting = Candidate { running: false, ..pod(2, None) };
        let crowded = Candidate { neighbours: 2, ..pod(4, Some(10)) };
        let all = vec![pod(6, Some(30)), pod(5, Some(20)), crowded, pod(3, None), starting, unscheduled];
        assert_eq!(victims(all.clone(), 6), [1, 2, 3, 4, 6, 5]);
        assert_eq!(victims(all.clone(), 2), [1, 2]);
        assert_eq!(victims(all, 0), [] as [u32; 0]);
    }
}
