//! One batch: computed on the worker's thread, and everyone in it answered, whatever happens.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Instant;

use super::job::Job;
use super::post::{Letters, Post};
use super::waiting::Item as _;
use super::worker::{Options, Worker};
use super::{Error, Outputs};
use crate::chaos::Trouble;
use crate::engine::{self, Instance};
use crate::model::Version;

/// How a batch has left its worker.
pub(super) enum End {
    /// Fit for the next one, whatever the answers were.
    Answered,
    /// In an unknown state.
    Panicked,
    /// Without a device.
    DeviceLost(String),
}

/// One go at computing some jobs.
#[derive(Clone, Copy)]
struct Attempt {
    since: Instant,
    trouble: Option<Trouble>,
    /// Rows for which there is memory, if this succeeds: the device had none for more.
    fits: Option<usize>,
}

/// Computes one batch and answers everyone in it.
pub(super) fn batch(worker: &Worker, instance: &mut dyn Instance, mut jobs: Vec<Job>) -> End {
    let _work = worker.pulse.work();
    let attempt = Attempt { since: Instant::now(), trouble: worker.rehearsal.next(), fits: None };
    rehearse_delay(worker, &jobs);
    for spoilt in worker.rehearsal.spoilt(&mut jobs) {
        spoilt.fail(Error::Failed("rehearsed by --chaos request-errors".to_owned()));
    }
    if jobs.is_empty() { End::Answered } else { compute_and_reply(worker, instance, jobs, attempt) }
}

fn rehearse_delay(worker: &Worker, jobs: &[Job]) {
    let Options { batch_delay, crowd_delay, .. } = worker.options;
    let is_crowd = !crowd_delay.is_zero() && (jobs.len() > 1 || worker.served.queue.load().requests > 0);
    let delay = if is_crowd { batch_delay + crowd_delay } else { batch_delay };
    if !delay.is_zero() {
        thread::sleep(delay);
    }
}

fn compute_and_reply(worker: &Worker, instance: &mut dyn Instance, jobs: Vec<Job>, attempt: Attempt) -> End {
    let (served, started) = (&worker.served, Instant::now());
    let rows = jobs.iter().map(|job| job.rows).sum();
    let result = catch_unwind(AssertUnwindSafe(|| {
        attempt.trouble.map_or(Ok(()), |trouble| suffer(instance, trouble))?;
        compute(&served.version, instance, &jobs, rows)
    }));
    served.metrics.batch(rows, started.elapsed());
    if let Some(tracer) = &worker.tracer
        && let Some(batch) = jobs.iter().find_map(|job| job.passage.so_far().batch)
    {
        tracer.compute(batch, started, rows, failure(&result));
    }
    match result {
        Ok(Ok(outputs)) => {
            served.queue.record(rows, attempt.since.elapsed());
            if let Some(fits) = attempt.fits {
                remember(worker, fits, jobs[0].row_bytes);
            }
            reply(jobs, outputs, &served.post);
            End::Answered
        }
        Ok(Err(error)) => try_smaller_or_refuse(worker, instance, jobs, error),
        Err(_) => {
            tracing::error!(model = served.version.id(), rows, "the worker panicked in this batch");
            refuse(jobs, &broken());
            End::Panicked
        }
    }
}

/// After a batch that failed with `error`: its halves, its requests, or an answer to everyone.
fn try_smaller_or_refuse(worker: &Worker, instance: &mut dyn Instance, jobs: Vec<Job>, error: engine::Error) -> End {
    let version = &worker.served.version;
    let (model, rows) = (version.id(), jobs.iter().map(|job| job.rows).sum::<usize>());
    match error {
        engine::Error::OutOfMemory(_) if rows > 1 && version.row_wise() => {
            in_parts(worker, instance, jobs, rows.div_ceil(2))
        }
        engine::Error::DeviceLost(_) => {
            tracing::error!(model, rows, %error, "batch failed");
            refuse(jobs, &broken());
            End::DeviceLost(error.gist())
        }
        // One request's values may be what the model cannot bear: the others must not suffer for it.
        error if jobs.len() > 1 => {
            tracing::warn!(model, rows, %error, "batch failed; trying its requests one by one");
            one_by_one(worker, instance, jobs)
        }
        error => {
            tracing::error!(model, rows, %error, "batch failed");
            let answer = match error {
                engine::Error::OutOfMemory(_) => Error::OutOfMemory,
                error => Error::Failed(error.told()),
            };
            refuse(jobs, &answer);
            End::Answered
        }
    }
}

/// One forward. Who may share it was decided when it was cut: where that is not known yet, nobody.
fn compute(
    version: &Version,
    instance: &mut dyn Instance,
    jobs: &[Job],
    rows: usize,
) -> Result<Outputs, engine::Error> {
    version.learn(instance, &jobs[0].inputs);
    match jobs {
        [job] if !version.row_wise() => version.whole(instance, &job.inputs),
        jobs => {
            let parts: Vec<_> = jobs.iter().map(|job| (job.inputs.as_slice(), 0..job.rows)).collect();
            version.forward(instance, &parts, rows)
        }
    }
}

fn one_by_one(worker: &Worker, instance: &mut dyn Instance, jobs: Vec<Job>) -> End {
    let mut jobs = jobs.into_iter();
    while let Some(job) = jobs.next() {
        let end = again(worker, instance, vec![job], None);
        if !matches!(end, End::Answered) {
            refuse(jobs, &broken());
            return end;
        }
    }
    End::Answered
}

/// Computes a batch for which there was no memory `half` of its rows at a time, or fewer where that was too much, too.
fn in_parts(worker: &Worker, instance: &mut dyn Instance, jobs: Vec<Job>, half: usize) -> End {
    let mut jobs = VecDeque::from(jobs);
    while !jobs.is_empty() {
        let rows = worker.served.limits(jobs[0].row_bytes).max_size.min(half);
        let end = again(worker, instance, first_rows(&mut jobs, rows), Some(rows));
        if !matches!(end, End::Answered) {
            refuse(jobs, &broken());
            return end;
        }
    }
    End::Answered
}

/// Takes up to so many rows from the front.
fn first_rows(jobs: &mut VecDeque<Job>, mut room: usize) -> Vec<Job> {
    let mut taken = Vec::new();
    while let Some(job) = jobs.pop_front_if(|_| room > 0) {
        if job.rows > room {
            let (first, rest) = job.split(room);
            taken.push(first);
            jobs.push_front(rest);
            break;
        }
        room -= job.rows;
        taken.push(job);
    }
    taken
}

/// Tries a part of a batch that failed, without those whom nobody awaits any more.
fn again(worker: &Worker, instance: &mut dyn Instance, mut jobs: Vec<Job>, fits: Option<usize>) -> End {
    let attempt = Attempt { since: Instant::now(), trouble: None, fits };
    jobs.retain(|job| job.is_awaited(attempt.since));
    if jobs.is_empty() {
        return End::Answered;
    }
    worker.pulse.beat();
    compute_and_reply(worker, instance, jobs, attempt)
}

/// The device has memory for so many rows, and none for more: from now on, batches are no larger.
fn remember(worker: &Worker, rows: usize, row_bytes: usize) {
    let served = &worker.served;
    let before = served.limits(row_bytes).max_size;
    if rows >= before || !served.ceiling.lower(rows, row_bytes) {
        return;
    }
    served.metrics.batch_max_rows(rows);
    tracing::warn!(
        model = served.version.id(),
        from = before,
        to = rows,
        row_bytes,
        "the device has no memory for larger batches: from now on, they are smaller"
    );
}

fn suffer(instance: &mut dyn Instance, trouble: Trouble) -> Result<(), engine::Error> {
    tracing::warn!(?trouble, "REHEARSAL: trouble in this batch");
    match trouble {
        Trouble::Hang => instance.rehearse(engine::Trouble::Hang),
        Trouble::DeviceLost => instance.rehearse(engine::Trouble::DeviceLost),
        Trouble::Panic => panic!("rehearsed"),
    }
}

/// What clients are told where it was not the model that failed; the log has the reason.
fn broken() -> Error {
    Error::Failed("the model failed on this batch".to_owned())
}

fn refuse(jobs: impl IntoIterator<Item = Job>, error: &Error) {
    for job in jobs {
        job.fail(error.clone());
    }
}

/// Why there are no outputs.
fn failure<T>(result: &thread::Result<Result<T, engine::Error>>) -> Option<String> {
    match result {
        Ok(Ok(_)) => None,
        Ok(Err(error)) => Some(error.gist()),
        Err(_) => Some("the worker panicked".to_owned()),
    }
}

/// Gives each job its rows of the outputs, which share the batch's bytes.
fn reply(mut jobs: Vec<Job>, mut outputs: Outputs, post: &Post) {
    let now = Instant::now();
    for job in &jobs {
        job.passage.end(now);
    }
    let mut letters = Letters::default();
    if jobs.len() == 1 {
        jobs.remove(0).answer(outputs, &mut letters);
    } else {
        for job in jobs {
            let ours = outputs.iter_mut().map(|(name, rest)| (name.clone(), rest.split_to(job.rows))).collect();
            job.answer(ours, &mut letters);
        }
    }
    post.send(letters);
}
