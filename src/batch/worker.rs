//! One OS thread per instance: it proves its instance, then takes batches and computes them for as long as the process
//! lives. Never a task of the async runtime: libtorch gives every calling thread a team of its own.
//!
//! A panic in a batch ends the thread, since nobody knows what it left behind; a successor with an instance of its own
//! goes on, as often as the budget allows.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::Served;
use super::queue::Batch;
use super::run::{self, End};
use crate::chaos::Rehearsal;
use crate::engine::{self, Instance};
use crate::lifecycle::pulse::Pulse;
use crate::lifecycle::{Event, Fault, Tx};
use crate::model::{Version, version};
use crate::telemetry::trace::{Batch as Traced, Tracer};

/// A worker may die this often…
const DEATHS: usize = 5;
/// …within this time. One more, and it is lost.
const WINDOW: Duration = Duration::from_mins(10);
/// How far computing steps back behind I/O. One step lets a waking I/O thread go first and costs no throughput; ten cost
/// a third of it at eight connections on two cores, for probes that were a millisecond quicker.
pub const NICENESS: i32 = 1;

/// What a worker says while it starts.
pub enum Word {
    /// One run of its proof is done.
    Run,
    Ready,
    Failed(version::Error),
}

/// How a worker runs.
#[derive(Clone, Copy)]
pub struct Options {
    /// Intra-op threads.
    pub threads: usize,
    /// A rehearsal's extra time per batch.
    pub batch_delay: Duration,
    /// The same, where requests share the batch, or wait behind it.
    pub crowd_delay: Duration,
}

/// A worker, apart from the instance, which never leaves its thread.
pub struct Worker {
    pub served: Served,
    pub index: usize,
    pub options: Options,
    pub lifecycle: Tx,
    /// Shows the watchdog that batches go on.
    pub pulse: Pulse,
    pub rehearsal: Arc<Rehearsal>,
    pub tracer: Option<Arc<Tracer>>,
    pub budget: Budget,
}

/// Starts a worker. Its words end with `Ready` or `Failed`; only a ready worker takes requests.
pub fn spawn(worker: Worker) -> io::Result<mpsc::Receiver<Word>> {
    let (say, words) = mpsc::channel();
    worker.on_a_thread(move |worker| {
        // Lowering one's own priority is always allowed on Linux. libtorch's team and successors inherit it.
        let _ = rustix::process::nice(NICENESS);
        match worker.prepare(&say) {
            Ok(instance) => {
                // Nobody listening means that the server gave up starting: then nobody queues requests either.
                let _ = say.send(Word::Ready);
                worker.serve(instance);
            }
            Err(error) => {
                let _ = say.send(Word::Failed(error));
            }
        }
    })?;
    Ok(words)
}

impl Worker {
    fn on_a_thread(self, live: impl FnOnce(Self) + Send + 'static) -> io::Result<()> {
        let name = format!("{}-{}", self.served.version.name, self.index);
        thread::Builder::new().name(name).spawn(move || live(self)).map(drop)
    }

    fn prepare(&self, say: &mpsc::Sender<Word>) -> Result<Box<dyn Instance>, version::Error> {
        let version = &self.served.version;
        let mut instance = version
            .model
            .instance(self.options.threads)
            .map_err(|error| version::Error::WarmUp { model: version.id(), reason: error.to_string() })?;
        if self.rehearsal.candidate_hangs() {
            tracing::warn!(model = version.id(), "REHEARSAL: this candidate hangs in its warm-up");
            let hung = instance.rehearse(engine::Trouble::Hang);
            hung.map_err(|error| version::Error::WarmUp { model: version.id(), reason: error.to_string() })?;
        }
        version.prove(instance.as_mut(), &mut || {
            let _ = say.send(Word::Run);
        })?;
        Ok(instance)
    }

    /// Takes batches until nobody brings any more, or until one of them ends this worker.
    fn serve(self, mut instance: Box<dyn Instance>) {
        while let Some(mut batch) = self.served.queue.take(|job| self.served.limits(job.row_bytes)) {
            self.served.metrics.cut(batch.reason);
            let traced = self.receive(&mut batch);
            let end = run::batch(&self, instance.as_mut(), batch.jobs);
            if let Some((tracer, traced)) = self.tracer.as_ref().zip(traced) {
                let Version { name, version, .. } = &*self.served.version;
                tracer.end_batch(traced, name, version);
            }
            match end {
                End::Answered => {}
                End::DeviceLost(reason) => return give_up(&self.served, &self.lifecycle, Fault::DeviceLost, &reason),
                End::Panicked => {
                    self.watched(|| drop(instance));
                    return self.hand_over();
                }
            }
        }
    }

    /// Notes when each request was taken, and with whom; what is to be told of the batch, where one of them is traced.
    fn receive(&self, batch: &mut Batch) -> Option<Traced> {
        let (now, jobs) = (Instant::now(), &mut batch.jobs);
        let rows = jobs.iter().map(|job| job.rows).sum();
        let kept = jobs.iter().filter_map(|job| job.passage.trace);
        let traced = self.tracer.as_ref().and_then(|tracer| tracer.begin_batch(kept, now, rows, batch.reason));
        let place = traced.as_ref().map(|traced| traced.place);
        for job in jobs {
            if job.is_first() {
                self.served.metrics.queue_time(now.saturating_duration_since(job.queued));
            }
            job.passage.take(now, rows, place);
        }
        traced
    }

    /// Leaves the work to a successor, or to nobody where the budget is spent.
    fn hand_over(mut self) {
        let (served, lifecycle) = (self.served.clone(), self.lifecycle.clone());
        let give_up = move |reason: &str| give_up(&served, &lifecycle, Fault::WorkerLost, reason);
        if !self.budget.spend(Instant::now()) {
            return give_up(&format!("a worker panicked more than {DEATHS} times within {WINDOW:?}"));
        }
        self.served.metrics.worker_restart();
        tracing::warn!(model = self.served.version.id(), worker = self.index, "restarting the worker");
        let if_not_started = give_up.clone();
        let started = self.on_a_thread(move |worker| {
            match worker.watched(|| worker.served.version.model.instance(worker.options.threads)) {
                // It needs no warm-up: what libtorch has optimised belongs to the model.
                Ok(instance) => worker.serve(instance),
                Err(error) => give_up(&format!("a worker's successor has no instance: {error}")),
            }
        });
        if let Err(error) = started {
            if_not_started(&format!("a worker's successor has no thread: {error}"));
        }
    }

    /// Does what may hang as a batch may, and nobody else would notice: requests wait meanwhile.
    fn watched<T>(&self, work: impl FnOnce() -> T) -> T {
        let _work = self.pulse.work();
        work()
    }
}

/// The model cannot be served any more: says so, and answers everyone who waits for it.
fn give_up(served: &Served, lifecycle: &Tx, fault: Fault, reason: &str) {
    lifecycle.apply(Event::Raised(fault), &format!("{}: {reason}", served.version.id()));
    served.queue.close();
}

/// How often a worker has died lately.
#[derive(Debug, Default)]
pub struct Budget(VecDeque<Instant>);

impl Budget {
    /// Whether one more death, `now`, is within the budget.
    fn spend(&mut self, now: Instant) -> bool {
        self.0.push_back(now);
        while self.0.front().is_some_and(|death| now.duration_since(*death) > WINDOW) {
            self.0.pop_front();
        }
        self.0.len() <= DEATHS
    }
}

#[cfg(test)]
pub(super) mod tests;
