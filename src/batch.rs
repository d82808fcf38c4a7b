//! From requests to batches and back: a bounded queue per model, and one worker thread per instance.
//!
//! `policy` decides what goes together, `queue` holds what waits, `worker` takes it, `run` computes it. A request enters
//! through [`Handle::infer`] and leaves through its oneshot, in order of completion.

pub mod policy;
pub mod queue;
mod run;
pub mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::model::Version;
use crate::telemetry::metrics::ModelMetrics;
use crate::tensor::Tensor;
use queue::Queue;

/// What a caller wants computed.
pub struct Call {
    /// One tensor per input of the spec, all of `rows` rows.
    pub inputs: Vec<Tensor>,
    pub rows: usize,
    pub deadline: Instant,
    pub priority: Priority,
}

/// Who goes first: a `Low` request is computed in what room `Normal` ones leave, and gives its place in a full queue to
/// one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    #[default]
    Normal,
    Low,
}

/// One request on its way to a worker.
pub struct Job {
    /// One tensor per input of the spec, all of `rows` rows.
    pub inputs: Vec<Tensor>,
    pub rows: usize,
    pub deadline: Instant,
    pub queued: Instant,
    pub reply: oneshot::Sender<Result<Outputs, Error>>,
}

impl Job {
    /// Whether somebody still waits for the answer, and it can still come in time.
    fn is_awaited(&self) -> bool {
        !self.reply.is_closed() && self.deadline > Instant::now()
    }
}

/// Named outputs, all of as many rows as the request had.
pub type Outputs = Vec<(String, Tensor)>;

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
}

/// Closed by the last caller to leave.
struct Door(Served);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

impl std::ops::Deref for Handle {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.0.0
    }
}

impl Served {
    /// Refuses what needs no body to be refused: where the queue is full, or the deadline cannot be met. `rows` is 1
    /// where it is not known yet. Whoever is admitted may still be refused by [`Handle::infer`].
    pub fn admit(&self, rows: usize, deadline: Instant, priority: Priority) -> Result<(), Error> {
        self.queue.admit(rows, deadline, priority)
    }
}

impl Handle {
    pub fn new(version: Arc<Version>, metrics: ModelMetrics, max_queue: usize) -> Self {
        Self(Arc::new(Door(Served { version, metrics, queue: Arc::new(Queue::new(max_queue)) })))
    }

    /// Requests in the queue now.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Queues one request and waits for its outputs.
    ///
    /// Cancel safe: dropped, the request leaves the queue uncomputed when its turn comes.
    pub async fn infer(&self, call: Call) -> Result<Outputs, Error> {
        let Call { inputs, rows, deadline, priority: _ } = call;
        let (reply, outputs) = oneshot::channel();
        self.queue.push(Job { inputs, rows, deadline, queued: Instant::now(), reply })?;
        match tokio::time::timeout_at(deadline.into(), outputs).await {
            Ok(Ok(result)) => result,
            // The queue's clock may be a moment ahead of the timer's.
            Ok(Err(_)) if deadline <= Instant::now() => Err(Error::Deadline),
            Ok(Err(_)) => Err(Error::Failed("the worker broke off".to_owned())),
            Err(_) => Err(Error::Deadline),
        }
    }
}

/// The models that are served; at least one.
pub struct Models {
    handles: Vec<Handle>,
    default: usize,
}

impl Models {
    /// `None` where `default` is no index into `handles`.
    pub fn new(handles: Vec<Handle>, default: usize) -> Option<Self> {
        (default < handles.len()).then_some(Self { handles, default })
    }

    pub fn all(&self) -> &[Handle] {
        &self.handles
    }

    /// The model that `/predict` means.
    pub fn default(&self) -> &Handle {
        &self.handles[self.default]
    }
}
