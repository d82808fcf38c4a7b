//! One batch: computed on the worker's thread, and everyone in it answered, whatever happens.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Instant;

use super::worker::Worker;
use super::{Error, Job, Outputs};
use crate::chaos::Trouble;
use crate::engine::{self, Instance};

/// What the callers of a batch hear when it was not the model that failed.
const BROKEN: &str = "the model failed on this batch";

/// How a batch has left its worker.
pub(super) enum End {
    /// Fit for the next one, whatever the answers were.
    Answered,
    /// In an unknown state.
    Panicked,
    /// Without a device.
    DeviceLost(String),
}

/// Computes one batch and answers everyone in it.
pub(super) fn batch(worker: &Worker, instance: &mut dyn Instance, jobs: Vec<Job>) -> End {
    let _work = worker.pulse.work();
    if !worker.options.batch_delay.is_zero() {
        thread::sleep(worker.options.batch_delay);
    }
    compute_and_reply(worker, instance, jobs, worker.rehearsal.next())
}

fn compute_and_reply(worker: &Worker, instance: &mut dyn Instance, jobs: Vec<Job>, trouble: Option<Trouble>) -> End {
    let started = Instant::now();
    let model = || worker.served.version.id();
    let rows = jobs.iter().map(|job| job.rows).sum();
    let result = catch_unwind(AssertUnwindSafe(|| {
        trouble.map_or(Ok(()), |trouble| suffer(instance, trouble))?;
        compute(worker, instance, &jobs, rows)
    }));
    worker.served.metrics.batch(rows, started.elapsed());
    match result {
        Ok(Ok(outputs)) => {
            reply(jobs, &outputs);
            End::Answered
        }
        Ok(Err(error @ engine::Error::DeviceLost(_))) => {
            tracing::error!(model = model(), rows, %error, "batch failed");
            refuse(jobs, &error.told());
            End::DeviceLost(error.gist())
        }
        // One request's values may be what the model cannot bear: the others must not suffer for it.
        Ok(Err(error)) if jobs.len() > 1 => {
            tracing::warn!(model = model(), rows, %error, "batch failed; trying its requests one by one");
            one_by_one(worker, instance, jobs)
        }
        Ok(Err(error)) => {
            tracing::error!(model = model(), rows, %error, "batch failed");
            refuse(jobs, &error.told());
            End::Answered
        }
        Err(_) => {
            tracing::error!(model = model(), rows, "the worker panicked in this batch");
            refuse(jobs, BROKEN);
            End::Panicked
        }
    }
}

fn one_by_one(worker: &Worker, instance: &mut dyn Instance, jobs: Vec<Job>) -> End {
    let mut jobs = jobs.into_iter();
    while let Some(job) = jobs.next() {
        worker.pulse.beat();
        let end = compute_and_reply(worker, instance, vec![job], None);
        if !matches!(end, End::Answered) {
            refuse(jobs.collect(), BROKEN);
            return end;
        }
    }
    End::Answered
}

fn suffer(instance: &mut dyn Instance, trouble: Trouble) -> Result<(), engine::Error> {
    tracing::warn!(?trouble, "REHEARSAL: trouble in this batch");
    match trouble {
        Trouble::Hang => instance.rehearse(engine::Trouble::Hang),
        Trouble::DeviceLost => instance.rehearse(engine::Trouble::DeviceLost),
        Trouble::Panic => panic!("rehearsed"),
    }
}

/// A closed channel is a client that has left.
fn refuse(jobs: Vec<Job>, told: &str) {
    for job in jobs {
        let _ = job.reply.send(Err(Error::Failed(told.to_owned())));
    }
}

/// Gives each job its rows of the outputs.
fn reply(jobs: Vec<Job>, outputs: &Outputs) {
    // Alone, it gets all there is: its outputs may have no rows.
    if jobs.len() == 1 {
        for job in jobs {
            let _ = job.reply.send(Ok(outputs.clone()));
        }
        return;
    }
    let mut start = 0;
    for job in jobs {
        let rows = start..start + job.rows;
        start = rows.end;
        let outputs = outputs.iter().map(|(name, tensor)| (name.clone(), tensor.slice(rows.clone()))).collect();
        let _ = job.reply.send(Ok(outputs));
    }
}

/// One or, for a request of more rows than a batch takes, several forwards over the rows of `jobs`.
fn compute(worker: &Worker, instance: &mut dyn Instance, jobs: &[Job], rows: usize) -> Result<Outputs, engine::Error> {
    let version = &worker.served.version;
    // The limits let nobody share a batch before that is known.
    version.learn(instance, &jobs[0].inputs);
    if let [job] = jobs
        && !version.row_wise()
    {
        return version.whole(instance, &job.inputs);
    }
    if rows <= version.spec.max_size {
        let parts: Vec<_> = jobs.iter().map(|job| (job.inputs.as_slice(), 0..job.rows)).collect();
        return version.forward(instance, &parts, rows);
    }
    // The policy lets a request above the limit through only when it is alone.
    let job = &jobs[0];
    let mut whole = Outputs::new();
    for start in (0..rows).step_by(version.spec.max_size) {
        if !job.is_awaited() {
            return Err(engine::Error::Failed("nobody waits for the rest of this request".to_owned()));
        }
        worker.pulse.beat();
        let range = start..rows.min(start + version.spec.max_size);
        let count = range.len();
        let outputs = version.forward(instance, &[(&job.inputs, range)], count)?;
        if whole.is_empty() {
            whole = outputs;
        } else {
            for ((_, whole), (_, part)) in whole.iter_mut().zip(outputs) {
                whole.append_rows(&part).map_err(engine::Error::Failed)?;
            }
        }
    }
    Ok(whole)
}
