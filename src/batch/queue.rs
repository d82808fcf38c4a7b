//! The bounded queue in front of a model's workers: async callers push, OS threads take whole batches.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::policy::{self, Candidate};
use super::{Error, Job, Priority};

pub struct Queue {
    /// `None` once the queue is closed.
    waiting: Mutex<Option<VecDeque<Job>>>,
    arrived: Condvar,
    limit: usize,
}

impl Queue {
    /// A queue that holds at most `limit` requests.
    pub fn new(limit: usize) -> Self {
        Self { waiting: Mutex::new(Some(VecDeque::new())), arrived: Condvar::new(), limit }
    }

    /// Appends a request, or refuses it when the queue is full or closed.
    pub fn push(&self, job: Job) -> Result<(), Error> {
        let mut open = self.lock();
        let waiting = open.as_mut().ok_or(Error::Lost)?;
        if waiting.len() >= self.limit {
            // Those whom nobody waits for must not keep the living out.
            waiting.retain(Job::is_awaited);
        }
        if waiting.len() >= self.limit {
            return Err(Error::Overloaded { waiting: waiting.len(), retry_after: Duration::ZERO });
        }
        waiting.push_back(job);
        drop(open);
        self.arrived.notify_one();
        Ok(())
    }

    /// Refuses a newcomer that [`Self::push`] would refuse.
    pub fn admit(&self, _rows: usize, _deadline: Instant, _priority: Priority) -> Result<(), Error> {
        let mut open = self.lock();
        let waiting = open.as_mut().ok_or(Error::Lost)?;
        if waiting.len() >= self.limit {
            waiting.retain(Job::is_awaited);
        }
        if waiting.len() >= self.limit {
            return Err(Error::Overloaded { waiting: waiting.len(), retry_after: Duration::ZERO });
        }
        Ok(())
    }

    pub fn waiting(&self) -> usize {
        self.lock().as_ref().map_or(0, VecDeque::len)
    }

    /// Refuses everyone who waits, and everyone who comes: there is no worker any more.
    pub fn close(&self) {
        let refused = self.lock().take();
        self.arrived.notify_all();
        for job in refused.into_iter().flatten() {
            // A closed channel is a client that has left.
            let _ = job.reply.send(Err(Error::Lost));
        }
    }

    /// Blocks until there is something to compute, then takes the next batch of at most `max_size` rows; waits up to
    /// `max_delay` from the first request's arrival for more to fill it. `None` once the queue is closed.
    ///
    /// Requests whose client has left or whose deadline has passed are dropped on the way.
    pub fn take(&self, max_size: usize, max_delay: Duration) -> Option<Vec<Job>> {
        let mut open = self.lock();
        loop {
            let waiting = open.as_mut()?;
            waiting.retain(Job::is_awaited);
            let count = policy::cut(waiting.iter(), max_size);
            let Some(first) = waiting.front() else {
                open = self.arrived.wait(open).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let patience = max_delay.saturating_sub(first.queued.elapsed());
            // A cut that leaves somebody waiting cannot grow.
            let full = count < waiting.len() || waiting.iter().map(|job| job.rows).sum::<usize>() >= max_size;
            if full || patience.is_zero() {
                return Some(waiting.drain(..count).collect());
            }
            open = self.arrived.wait_timeout(open, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A panic elsewhere leaves the queue as it was between two operations: still good.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<VecDeque<Job>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Candidate for Job {
    fn rows(&self) -> usize {
        self.rows
    }

    fn fits_with(&self, other: &Self) -> bool {
        self.inputs.iter().zip(&other.inputs).all(|(ours, theirs)| ours.row_shape() == theirs.row_shape())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::batch::Outputs;

    fn job(deadline: Duration) -> (Job, oneshot::Receiver<Result<Outputs, Error>>) {
        let (reply, outputs) = oneshot::channel();
        let now = Instant::now();
        (Job { inputs: Vec::new(), rows: 1, deadline: now + deadline, queued: now, reply }, outputs)
    }

    #[test]
    fn a_full_queue_refuses() {
        let queue = Queue::new(1);
        let (first, _kept) = job(Duration::from_secs(9));
        let (second, _kept) = job(Duration::from_secs(9));
        queue.push(first).unwrap();
        assert_eq!(queue.push(second), Err(Error::Overloaded { waiting: 1, retry_after: Duration::ZERO }));
    }

    #[test]
    fn requests_that_nobody_waits_for_make_room_in_a_full_queue() {
        let queue = Queue::new(1);
        let (left, gone) = job(Duration::from_secs(9));
        queue.push(left).unwrap();
        drop(gone);
        let (next, _kept) = job(Duration::from_secs(9));
        assert_eq!(queue.push(next), Ok(()));
    }

    #[test]
    fn a_closed_queue_refuses_those_who_wait_and_those_who_come() {
        let queue = Queue::new(9);
        let (waiting, mut answer) = job(Duration::from_secs(9));
        queue.push(waiting).unwrap();
        queue.close();
        assert_eq!(answer.try_recv(), Ok(Err(Error::Lost)));
        assert_eq!(queue.push(job(Duration::from_secs(9)).0), Err(Error::Lost));
        assert!(queue.take(8, Duration::ZERO).is_none());
    }

    #[test]
    fn a_delay_is_waited_out_unless_the_batch_is_full() {
        let queue = Queue::new(9);
        let delay = Duration::from_millis(50);
        let (alone, _kept) = job(Duration::from_secs(9));
        let queued = alone.queued;
        queue.push(alone).unwrap();
        assert_eq!(queue.take(2, delay).unwrap().len(), 1);
        assert!(queued.elapsed() >= delay);
        let pair = [job(Duration::from_secs(9)), job(Duration::from_secs(9))];
        let (jobs, _kept): (Vec<_>, Vec<_>) = pair.into_iter().unzip();
        for job in jobs {
            queue.push(job).unwrap();
        }
        let started = Instant::now();
        assert_eq!(queue.take(2, Duration::from_secs(9)).unwrap().len(), 2);
        assert!(started.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn requests_that_nobody_waits_for_are_not_computed() {
        let queue = Queue::new(9);
        let (left, gone) = job(Duration::from_secs(9));
        drop(gone);
        let (late, _kept) = job(Duration::ZERO);
        let (good, _also_kept) = job(Duration::from_secs(9));
        for job in [left, late, good] {
            queue.push(job).unwrap();
        }
        assert_eq!((queue.take(8, Duration::ZERO).unwrap().len(), queue.waiting()), (1, 0));
    }
}
