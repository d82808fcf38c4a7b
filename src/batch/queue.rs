//! The bounded queue in front of a model's workers: async callers push, OS threads take whole batches.
//!
//! What is decided under the lock is decided by the pure parts: `waiting` keeps the order, `policy` cuts, `pace` measures,
//! `crowd` knows how many there are.
//!
//! Of few requests, the first wakes a worker. Of a crowd, workers see what has come turn by turn of the async runtime, which
//! reads from all connections that have sent something: a task of it announces what each turn has brought
//! ([`Queue::announce_turns`]). Seen one by one, they would be computed by twos and threes, and each be paid for with the
//! waking of a thread, which costs as much as to read several of them.

mod rest;

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use self::rest::alertness;
use super::crowd::{Crowd, Wait};
use super::job::Job;
use super::pace::{Crew, Load, Pace};
use super::policy::{self, Decision, Limits};
use super::waiting::{Item as _, Waiting};
use super::{Error, Priority};
use crate::telemetry::metrics::CutReason;

/// How many turns are announced together at most, while each brings more. One takes some microseconds.
const TURNS: usize = 4;
/// An announcement that does not come within this time is not waited for any longer.
const PATIENCE: Duration = Duration::from_millis(1);

pub(super) struct Queue {
    /// `None` once the queue is closed.
    open: Mutex<Option<Open>>,
    arrived: Condvar,
    /// Requests that somebody has ceased to await since the last sweep, at most.
    left: AtomicUsize,
    /// Changes whenever a worker is woken, and when the queue is closed; only under the lock.
    news: AtomicUsize,
    /// Called by the first request of a crowd's turn, and when the queue is closed.
    herald: Notify,
    /// What workers have; read only under the lock.
    computing: Arc<InHand>,
    /// In requests.
    limit: usize,
    workers: usize,
    /// How long a worker stays awake for the next request.
    alert: Duration,
}

#[derive(Default)]
struct Open {
    waiting: Waiting<Job>,
    pace: Pace,
    /// Workers with nothing to compute.
    idle: usize,
    /// Whether one of them was woken, and none has come since.
    is_called: bool,
    crowd: Crowd,
    /// Whether some have come who are not announced yet, but will be.
    is_promised: bool,
    /// How long the latest of them had nothing to compute, before it had.
    last_rest: Duration,
    /// Whether the latest batch was of one request.
    was_alone: bool,
    /// No deadline in the queue is earlier; `None` where it was empty at the last sweep, and nobody has come since.
    earliest: Option<Instant>,
}

/// Who comes, as far as refusing it needs to know.
struct Newcomer<'a> {
    rows: usize,
    deadline: Instant,
    priority: Priority,
    now: Instant,
    /// `None` where only its head has come.
    job: Option<&'a Job>,
}

/// One batch for one worker; never empty.
pub(super) struct Batch {
    pub(super) jobs: Vec<Job>,
    pub(super) reason: CutReason,
    _computing: Computing,
}

/// Requests that are being computed, or parts of such, and their rows.
#[derive(Default)]
struct InHand {
    requests: AtomicUsize,
    rows: AtomicUsize,
}

/// Lasts for as long as its rows are computed.
struct Computing {
    all: Arc<InHand>,
    load: Load,
}

impl Computing {
    fn new(all: &Arc<InHand>, load: Load) -> Self {
        all.requests.fetch_add(load.requests, Ordering::Relaxed);
        all.rows.fetch_add(load.rows, Ordering::Relaxed);
        Self { all: all.clone(), load }
    }
}

impl Drop for Computing {
    fn drop(&mut self) {
        self.all.requests.fetch_sub(self.load.requests, Ordering::Relaxed);
        self.all.rows.fetch_sub(self.load.rows, Ordering::Relaxed);
    }
}

impl Queue {
    /// A queue of at most `limit` requests, for so many workers.
    pub(super) fn new(limit: usize, workers: usize) -> Self {
        Self {
            open: Mutex::new(Some(Open::default())),
            arrived: Condvar::new(),
            left: AtomicUsize::new(0),
            news: AtomicUsize::new(0),
            herald: Notify::new(),
            computing: Arc::default(),
            limit,
            workers,
            alert: alertness(available_parallelism().map_or(1, NonZero::get)),
        }
    }

    /// Takes a request in, or refuses it where the queue is full or closed, or its deadline cannot be met. In a full queue
    /// a `Normal` one takes the place of the youngest `Low` one.
    pub(super) fn push(&self, job: Job, limits: Limits) -> Result<(), Error> {
        let newcomer = Newcomer {
            rows: job.rows,
            deadline: job.deadline,
            priority: job.priority(),
            now: job.queued,
            job: Some(&job),
        };
        // Declared before the lock is taken: freed after it is released.
        let mut gone = Vec::new();
        let mut open = self.lock();
        let state = open.as_mut().ok_or(Error::Lost)?;
        self.refuse(state, &newcomer, &self.crew(limits), &mut gone)?;
        let is_full = state.waiting.load().requests >= self.limit;
        let displaced = if is_full { state.waiting.give_way() } else { None };
        state.earliest = Some(state.earliest.map_or(job.deadline, |earliest| earliest.min(job.deadline)));
        let queued = job.queued;
        state.waiting.push(job);
        let displaced = displaced.map(|job| (job, state.overloaded(&self.crew(limits))));
        state.crowd.came(self.in_hand(state), queued);
        if state.crowd.is_small() && limits.max_delay.is_zero() {
            self.wake(open);
        } else {
            let is_first = !std::mem::replace(&mut state.is_promised, true);
            drop(open);
            if is_first {
                self.herald.notify_one();
            }
        }
        if let Some((job, refusal)) = displaced {
            job.fail(refusal);
        }
        Ok(())
    }

    /// Announces what comes, turn by turn of the runtime that this runs on, until the queue is closed.
    ///
    /// A task of its own, never a part of a request's: nobody can say when that is polled next.
    pub(super) async fn announce_turns(&self) {
        loop {
            self.herald.notified().await;
            let mut before = self.load().requests;
            for _turn in 0..TURNS {
                tokio::task::yield_now().await;
                let now = self.load().requests;
                if now <= before {
                    break;
                }
                before = now;
            }
            if !self.announce() {
                return;
            }
        }
    }

    /// Lets a worker see those who wait, if any still do; false once the queue is closed.
    pub(super) fn announce(&self) -> bool {
        let mut open = self.lock();
        let Some(state) = open.as_mut() else { return false };
        state.is_promised = false;
        self.wake(open);
        true
    }

    /// Wakes a worker if there is something for one, and one to wake who is not on his way.
    fn wake(&self, mut open: Guard<'_>) {
        let Some(state) = open.as_mut() else { return };
        if state.idle == 0 || state.is_called || state.waiting.load().requests == 0 {
            return;
        }
        state.is_called = true;
        self.news.fetch_add(1, Ordering::Relaxed);
        drop(open);
        self.arrived.notify_one();
    }

    /// Refuses a newcomer whose body has not come yet, where [`Self::push`] would certainly refuse it now.
    pub(super) fn admit(
        &self,
        rows: usize,
        deadline: Instant,
        priority: Priority,
        limits: Limits,
    ) -> Result<(), Error> {
        let newcomer = Newcomer { rows, deadline, priority, now: Instant::now(), job: None };
        let mut gone = Vec::new();
        let mut open = self.lock();
        let state = open.as_mut().ok_or(Error::Lost)?;
        self.refuse(state, &newcomer, &self.crew(limits), &mut gone)
    }

    /// Notes that somebody has ceased to await a request, which may be waiting still.
    pub(super) fn leave(&self) {
        self.left.fetch_add(1, Ordering::Release);
    }

    /// How much waits.
    pub(super) fn load(&self) -> Load {
        self.lock().as_ref().map_or_else(Load::default, |state| state.waiting.load())
    }

    /// What the tensors of those who wait hold, in bytes. Looks at each of them: for a scrape.
    pub(super) fn bytes(&self) -> usize {
        let inputs =
            |state: &Open| state.waiting.iter().flat_map(|job| &job.inputs).map(|input| input.bytes.len()).sum();
        self.lock().as_ref().map_or(0, inputs)
    }

    /// A batch of `rows` was computed.
    pub(super) fn record(&self, rows: usize, took: Duration) {
        let now = Instant::now();
        if let Some(state) = self.lock().as_mut() {
            state.pace.record(rows, took, now);
        }
    }

    /// Refuses everyone who waits, and everyone who comes: there is no worker any more.
    pub(super) fn close(&self) {
        let mut open = self.lock();
        let refused = open.take();
        self.news.fetch_add(1, Ordering::Relaxed);
        drop(open);
        self.arrived.notify_all();
        self.herald.notify_one();
        for job in refused.into_iter().flat_map(|state| state.waiting) {
            job.fail(Error::Lost);
        }
    }

    /// Blocks until there is a batch to compute, within the `limits` that hold for a request and those of its group.
    /// `None` once the queue is closed.
    ///
    /// Requests whose client has left or whose deadline has passed are dropped when their turn comes.
    pub(super) fn take(&self, limits: impl Fn(&Job) -> Limits) -> Option<Batch> {
        let mut open = self.lock();
        let (freed, mut is_patient, mut wait) = (Instant::now(), true, None);
        loop {
            let state = open.as_mut()?;
            let Some(head) = state.waiting.head() else {
                wait = None; // Another worker has taken those with whom it began.
                open = self.rest(open, None);
                continue;
            };
            let (limits, now) = (limits(state.waiting.example(head)?), Instant::now());
            let in_hand = self.in_hand(state);
            let until = state.expects(freed, in_hand, &self.crew(limits)).filter(|until| *until > now);
            let about = state.waiting.about(head, &limits, until)?;
            if std::mem::take(&mut is_patient) && state.is_promised && about.rows < limits.max_size {
                open = self.rest(open, Some(PATIENCE));
                continue;
            }
            let computing = self.computing.rows.load(Ordering::Relaxed);
            let share = |rows| policy::share(rows, computing, self.workers).min(limits.max_size);
            let missing = until.map_or(0, |_| state.crowd.missing(in_hand));
            let most = about.rows + missing;
            let needs = state.pace.expected(most.min(share(most)));
            let reason = match policy::decide(&about, &limits, needs, now) {
                Decision::Cut(reason) => reason,
                Decision::Wait(time) => {
                    wait.get_or_insert(Wait { waiting: state.waiting.load().requests, missing });
                    open = self.rest(open, Some(time));
                    continue;
                }
            };
            let wait = wait.take().map(|wait: Wait| wait.was_worth_it(state.waiting.load().requests, reason));
            let share = Limits { max_size: share(about.rows), ..limits };
            let cut = state.waiting.cut(head, &share, |job| job.is_awaited(now));
            let rows: usize = cut.batch.iter().map(|job| job.rows).sum();
            let computing = Computing::new(&self.computing, Load { requests: cut.batch.len(), rows });
            state.was_alone = cut.batch.len() == 1;
            if rows > 0 {
                state.crowd.cut(in_hand, wait);
            }
            self.wake(open);
            drop(cut.gone);
            if rows > 0 {
                // Some that would have filled it were not awaited any more, or are left to others.
                let is_short = reason == CutReason::Full && limits.row_wise && rows < limits.max_size;
                let reason = if is_short { CutReason::Idle } else { reason };
                return Some(Batch { jobs: cut.batch, reason, _computing: computing });
            }
            open = self.lock();
            is_patient = true;
        }
    }

    /// Refuses `newcomer` if it must be. Before that, it looks for those whom nobody awaits, where there may be some: they
    /// must not keep the living out.
    fn refuse(&self, state: &mut Open, newcomer: &Newcomer, crew: &Crew, gone: &mut Vec<Job>) -> Result<(), Error> {
        let now = newcomer.now;
        if newcomer.deadline <= now {
            return Err(Error::Deadline);
        }
        if state.waiting.load().requests >= self.limit {
            self.sweep(state, now, gone);
            let is_full = state.waiting.load().requests >= self.limit;
            if is_full && (newcomer.priority == Priority::Low || !state.waiting.has_low()) {
                return Err(state.overloaded(crew));
            }
        }
        let left = newcomer.deadline.saturating_duration_since(now);
        if state.needs(newcomer, crew) > left {
            self.sweep(state, now, gone);
            let needs = state.needs(newcomer, crew);
            if needs > left {
                return Err(Error::Late { needs });
            }
        }
        Ok(())
    }

    fn sweep(&self, state: &mut Open, now: Instant, gone: &mut Vec<Job>) {
        let is_somebody_late = state.earliest.is_some_and(|earliest| earliest <= now);
        if self.left.swap(0, Ordering::Acquire) > 0 || is_somebody_late {
            gone.extend(state.waiting.sweep(|job| job.is_awaited(now)));
            state.earliest = state.waiting.iter().map(|job| job.deadline).min();
        }
    }

    /// Requests that wait or are computed.
    fn in_hand(&self, state: &Open) -> usize {
        state.waiting.load().requests + self.computing.requests.load(Ordering::Relaxed)
    }

    fn crew(&self, limits: Limits) -> Crew {
        Crew { workers: self.workers, limits }
    }

    /// A panic elsewhere leaves the queue as it was between two operations: still good.
    fn lock(&self) -> Guard<'_> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Guard<'a> = MutexGuard<'a, Option<Open>>;

impl Open {
    /// Until when a worker that is free since `freed` waits for more, where no delay is set and some are expected.
    fn expects(&self, freed: Instant, in_hand: usize, crew: &Crew) -> Option<Instant> {
        if !crew.limits.max_delay.is_zero() || self.crowd.missing(in_hand) == 0 {
            return None;
        }
        self.crowd.until(freed, self.pace.interval(self.waiting.load().rows, crew))
    }

    /// The least that the newcomer must wait for its answer, as far as that was measured.
    fn needs(&self, newcomer: &Newcomer, crew: &Crew) -> Duration {
        if self.idle > 0 && self.pace.is_stale(newcomer.now) {
            return Duration::ZERO;
        }
        let ahead =
            newcomer.job.map_or_else(|| self.waiting.ahead_of_any(newcomer.priority), |job| self.waiting.ahead_of(job));
        self.pace.at_least(ahead, newcomer.rows, crew)
    }

    fn overloaded(&self, crew: &Crew) -> Error {
        let load = self.waiting.load();
        Error::Overloaded { waiting: load.requests, retry_after: self.pace.drain(load, crew) }
    }
}

#[cfg(test)]
mod tests;
