//! From requests to batches and back: a bounded queue per model, and one worker thread per instance.
//!
//! `policy` decides what goes together, `queue` holds what waits, `worker` takes it, `run` computes it. A request enters
//! through [`Handle::infer`] and leaves through its oneshot, in order of completion. `models` is where handles are found,
//! `control` how what is found there changes.

pub mod control;
pub mod identity;
pub mod models;
pub mod policy;
pub mod queue;
mod run;
pub mod worker;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::model::Version;
use crate::telemetry::metrics::ModelMetrics;
use crate::tensor::Tensor;
use identity::Identity;
pub use models::Models;
use queue::Queue;

/// What a caller wants computed.
pub struct Call {
    /// One tensor per input of the spec, all of `rows` rows.
    pub inputs: Vec<Tensor>,
    pub rows: usize,
    pub deadline: Instant,
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
    Overloaded { waiting: usize },
    #[error("the deadline passed before the answer was computed")]
    Deadline,
    #[error("{0}")]
    Failed(String),
    #[error("the model can no longer be computed here")]
    Lost,
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
struct Door {
    served: Served,
    identity: OnceLock<Identity>,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.served.queue.close();
        self.served.metrics.waiting(0);
    }
}

impl std::ops::Deref for Handle {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.0.served
    }
}

impl Handle {
    pub fn new(version: Arc<Version>, metrics: ModelMetrics, max_queue: usize) -> Self {
        let served = Served { version, metrics, queue: Arc::new(Queue::new(max_queue)) };
        Self(Arc::new(Door { served, identity: OnceLock::new() }))
    }

    /// How clients are told which version answers. First asked once the version has its digest.
    pub fn identity(&self) -> &Identity {
        self.0.identity.get_or_init(|| Identity::of(&self.version))
    }

    /// Requests in the queue now.
    pub fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// Queues one request and waits for its outputs.
    ///
    /// Cancel safe: dropped, the request leaves the queue uncomputed when its turn comes.
    pub async fn infer(&self, call: Call) -> Result<Outputs, Error> {
        let Call { inputs, rows, deadline } = call;
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
