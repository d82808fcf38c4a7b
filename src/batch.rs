//! From requests to batches and back: a bounded queue per model, and one worker thread per instance.
//!
//! `queue` holds what waits, in the groups and the order of `waiting`; `policy` says when a batch is cut, by the `pace`
//! measured and the `crowd` that is there; `worker` takes it, `run` computes it, within the `ceiling` that the device's
//! memory has shown. A request enters through [`Handle::infer`] as a `job`, whose `passage` notes how far it comes, and
//! leaves by `post` through its oneshot, in order of completion. `models` is where handles are found, `control` how what is
//! found there changes.

mod ceiling;
pub mod control;
mod crowd;
pub mod identity;
mod job;
pub mod models;
mod pace;
mod passage;
mod policy;
mod post;
mod queue;
mod run;
mod waiting;
pub mod worker;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

pub use crate::engine::Outputs;
use crate::model::{Spec, Version};
use crate::telemetry::metrics::ModelMetrics;
use crate::tensor::Tensor;
use ceiling::Ceiling;
use identity::Identity;
use job::Job;
pub use models::Models;
pub use pace::Load;
pub use passage::Passage;
use policy::Limits;
use post::Post;
use queue::Queue;

/// What a caller wants computed.
pub struct Call {
    /// One tensor per input of the spec, all of `rows` rows.
    pub inputs: Vec<Tensor>,
    pub rows: usize,
    pub deadline: Instant,
    pub priority: Priority,
    /// Notes how far the request comes.
    pub passage: Arc<Passage>,
}

/// Who goes first: a `Low` request is computed in what room `Normal` ones leave, and gives its place in a full queue to
/// one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    #[default]
    Normal,
    Low,
}

/// Why a request got no outputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{waiting} requests are waiting, as many as the queue holds")]
    Overloaded {
        waiting: usize,
        /// When the queue as it is now will be drained; zero where nothing was measured yet.
        retry_after: Duration,
    },
    #[error("the deadline passed before the answer was computed")]
    Deadline,
    #[error(
        "refused on arrival: it cannot be answered within its deadline, about {needs:.1?} are between it and its answer"
    )]
    Late { needs: Duration },
    #[error("the device has no memory for this request")]
    OutOfMemory,
    #[error("{0}")]
    Failed(String),
    #[error("the model can no longer be computed here")]
    Lost,
}

impl Error {
    /// When it is worth to try again, where that was measured.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }
}

/// A model that answers, for whoever brings it requests. Clones share one queue.
///
/// Its workers end when the last clone is dropped: not before the last request is done, since each holds one.
#[derive(Clone)]
pub struct Handle(Arc<Door>);

/// What callers and workers share.
#[derive(Clone)]
pub struct Served {
    pub version: Arc<Version>,
    pub metrics: ModelMetrics,
    queue: Arc<Queue>,
    post: Arc<Post>,
    ceiling: Arc<Ceiling>,
}

/// Closed by the last caller to leave.
struct Door {
    served: Served,
    identity: OnceLock<Identity>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.served.queue.close();
        self.served.count_waiting();
    }
}

impl std::ops::Deref for Handle {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.0.served
    }
}

impl Served {
    /// Refuses what needs no body to be refused: where the queue is full, or the deadline cannot be met. `rows` is 1
    /// where it is not known yet. Whoever is admitted may still be refused by [`Handle::infer`].
    pub fn admit(&self, rows: usize, deadline: Instant, priority: Priority) -> Result<(), Error> {
        // Rows of no bytes are those to which the device's memory is no limit.
        self.queue.admit(rows, deadline, priority, self.limits(0))
    }

    /// What waits now.
    pub fn waiting(&self) -> Load {
        self.queue.load()
    }

    /// Tells the metrics what waits now: nobody counts it as it comes and goes.
    pub fn count_waiting(&self) {
        let Load { requests, rows } = self.waiting();
        self.metrics.waiting(requests);
        self.metrics.waiting_rows(rows);
        self.metrics.waiting_bytes(self.queue.bytes());
    }

    /// What a batch may be now, of rows of so many bytes.
    fn limits(&self, row_bytes: usize) -> Limits {
        let Spec { max_size, max_delay, .. } = self.version.spec;
        Limits { max_size: self.ceiling.of(max_size, row_bytes), max_delay, row_wise: self.version.row_wise() }
    }
}

impl Handle {
    pub fn new(version: Arc<Version>, metrics: ModelMetrics, max_queue: usize) -> Self {
        let queue = Arc::new(Queue::new(max_queue, version.spec.instances));
        metrics.batch_max_rows(version.spec.max_size);
        let served = Served { version, metrics, queue, post: Arc::default(), ceiling: Arc::default() };
        Self(Arc::new(Door { served, identity: OnceLock::new() }))
    }

    /// How clients are told which version answers. First asked once the version has its digest.
    pub fn identity(&self) -> &Identity {
        self.0.identity.get_or_init(|| Identity::of(&self.version))
    }

    /// Lets tasks of the async runtime announce requests and hand answers out, from the first request on. They end with the
    /// model.
    fn attend(&self) {
        if self.post.open() {
            let queue = self.queue.clone();
            tokio::spawn(async move { queue.announce_turns().await });
        }
    }

    /// Queues one request and waits for its outputs.
    ///
    /// Cancel safe: dropped, the request leaves the queue uncomputed when its turn comes.
    pub async fn infer(&self, call: Call) -> Result<Outputs, Error> {
        let deadline = call.deadline;
        self.attend();
        let (job, outputs) = Job::new(call);
        let limits = self.limits(job.row_bytes);
        self.queue.push(job, limits)?;
        // Dropped after the channel, so that the queue finds it closed.
        let mut patience = Patience { queue: &self.queue, is_over: true };
        match tokio::time::timeout_at(deadline.into(), outputs).await {
            Ok(Ok(result)) => {
                patience.is_over = false;
                result
            }
            // The queue's clock may be a moment ahead of the timer's.
            Ok(Err(_)) if deadline <= Instant::now() => Err(Error::Deadline),
            Ok(Err(_)) => Err(Error::Failed("the worker broke off".to_owned())),
            Err(_) => Err(Error::Deadline),
        }
    }
}

/// That of a caller, who may leave before it has its answer.
struct Patience<'a> {
    queue: &'a Queue,
    is_over: bool,
}

impl Drop for Patience<'_> {
    fn drop(&mut self) {
        if self.is_over {
            self.queue.leave();
        }
    }
}
