//! The queue as callers and workers meet it; its order and its rules have their own tables.

use std::sync::{Arc, Barrier};
use std::thread;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tokio::sync::oneshot;

use super::rest::ALERT;
use super::*;
use crate::batch::crowd::FEW;
use crate::batch::{Call, Outputs};
use crate::tensor::{DType, Tensor};

const LONG: Duration = Duration::from_secs(30);
const LIMITS: Limits = Limits { max_size: 4, max_delay: Duration::ZERO, row_wise: true };

type Answer = oneshot::Receiver<Result<Outputs, Error>>;

fn job_of(rows: usize, deadline: Instant, priority: Priority) -> (Job, Answer) {
    let inputs = vec![Tensor { dtype: DType::Uint8, shape: vec![rows], bytes: vec![0; rows].into() }];
    Job::new(Call { inputs, rows, deadline, priority, passage: Arc::default() })
}

fn job() -> (Job, Answer) {
    job_of(1, Instant::now() + LONG, Priority::Normal)
}

/// A queue of `limit` requests, full of `Normal` ones of one row.
fn full(limit: usize) -> (Queue, Vec<Answer>) {
    let queue = Queue::new(limit, 1);
    let answers = (0..limit).map(|_| push(&queue, job()).unwrap()).collect();
    (queue, answers)
}

fn push(queue: &Queue, (job, answer): (Job, Answer)) -> Result<Answer, Error> {
    queue.push(job, LIMITS).map(|()| {
        queue.announce();
        answer
    })
}

fn admit(queue: &Queue, within: Duration) -> Result<(), Error> {
    queue.admit(1, Instant::now() + within, Priority::Normal, LIMITS)
}

/// What `Handle::infer` does for callers that leave.
fn leave(queue: &Queue, answers: Vec<Answer>) {
    for answer in answers {
        drop(answer);
        queue.leave();
    }
}

fn take(queue: &Queue) -> usize {
    queue.take(|_| LIMITS).unwrap().jobs.len()
}

/// A worker's life, which tells how many requests each batch had.
fn take_all(queue: &Queue, taken: &std::sync::mpsc::Sender<usize>) {
    while let Some(batch) = queue.take(|_| LIMITS) {
        let _ = taken.send(batch.jobs.len());
    }
}

fn until_idle(queue: &Queue, workers: usize) {
    while queue.lock().as_ref().unwrap().idle < workers {
        thread::yield_now();
    }
}

fn overloaded(waiting: usize, millis: u64) -> Error {
    Error::Overloaded { waiting, retry_after: Duration::from_millis(millis) }
}

#[test]
fn a_full_queue_refuses_before_and_after_the_body() {
    let (queue, _answers) = full(2);
    assert_eq!(push(&queue, job()).err(), Some(overloaded(2, 0)));
    assert_eq!(admit(&queue, LONG), Err(overloaded(2, 0)));
    take(&queue);
    assert_eq!(admit(&queue, LONG), Ok(()));
}

#[test]
fn requests_that_nobody_waits_for_make_room_in_a_full_queue() {
    let (queue, answers) = full(1);
    leave(&queue, answers);
    assert_eq!(admit(&queue, LONG), Ok(()));
    assert_eq!(queue.load(), Load::default());
}

#[test]
fn in_a_full_queue_the_youngest_of_low_priority_gives_way_to_a_normal_one() {
    let queue = Queue::new(3, 1);
    let low = || job_of(1, Instant::now() + LONG, Priority::Low);
    let mut older = push(&queue, low()).unwrap();
    let _normal = push(&queue, job()).unwrap();
    let mut younger = push(&queue, low()).unwrap();
    assert_eq!(push(&queue, low()).err(), Some(overloaded(3, 0)));
    assert_eq!(queue.admit(1, Instant::now() + LONG, Priority::Low, LIMITS), Err(overloaded(3, 0)));
    assert_eq!(admit(&queue, LONG), Ok(()));
    let _next = push(&queue, job()).unwrap();
    assert_eq!(younger.try_recv(), Ok(Err(overloaded(3, 0))));
    let _last = push(&queue, job()).unwrap();
    assert_eq!(older.try_recv(), Ok(Err(overloaded(3, 0))));
    assert_eq!(push(&queue, job()).err(), Some(overloaded(3, 0)));
}

#[test]
fn a_closed_queue_refuses_those_who_wait_and_those_who_come() {
    let (queue, mut answers) = full(2);
    queue.close();
    for answer in &mut answers {
        assert_eq!(answer.try_recv(), Ok(Err(Error::Lost)));
    }
    assert_eq!((push(&queue, job()).err(), admit(&queue, LONG)), (Some(Error::Lost), Err(Error::Lost)));
    assert!(queue.take(|_| LIMITS).is_none());
}

#[test]
fn a_delay_is_waited_out_unless_the_batch_is_full_or_a_deadline_comes_first() {
    let queue = Queue::new(9, 1);
    let (short, long) = (Duration::from_millis(50), LONG);
    let limits = |max_delay| move |_: &Job| Limits { max_size: 2, max_delay, row_wise: true };
    let started = Instant::now();
    let _alone = push(&queue, job()).unwrap();
    let batch = queue.take(limits(short)).unwrap();
    assert_eq!((batch.jobs.len(), batch.reason), (1, CutReason::Delay));
    assert!(started.elapsed() >= short);
    let _pair = [push(&queue, job()).unwrap(), push(&queue, job()).unwrap()];
    let batch = queue.take(limits(long)).unwrap();
    assert_eq!((batch.jobs.len(), batch.reason), (2, CutReason::Full));
    let deadline = Instant::now() + Duration::from_secs(1);
    queue.record(2, Duration::from_millis(600));
    let _pressed = push(&queue, job_of(1, deadline, Priority::Normal)).unwrap();
    let batch = queue.take(limits(long)).unwrap();
    assert_eq!((batch.jobs.len(), batch.reason), (1, CutReason::Deadline));
    assert!(Instant::now() < deadline, "too late to be computed");
}

#[test]
fn requests_that_nobody_waits_for_are_not_computed() {
    let queue = Queue::new(9, 1);
    drop(push(&queue, job()).unwrap());
    let soon = Instant::now() + Duration::from_millis(20);
    let _late = push(&queue, job_of(1, soon, Priority::Normal)).unwrap();
    let _good = push(&queue, job()).unwrap();
    while Instant::now() <= soon {
        thread::yield_now();
    }
    assert_eq!((take(&queue), queue.load().requests), (1, 0));
}

#[test]
fn what_would_be_too_late_is_refused_on_arrival_but_only_where_that_was_measured() {
    let (queue, _answers) = full(8);
    assert_eq!(admit(&queue, Duration::from_millis(100)), Err(overloaded(8, 0)));
    take(&queue);
    let soon = Duration::from_millis(500);
    assert_eq!(admit(&queue, soon), Ok(()), "nothing is measured");
    queue.record(4, Duration::from_millis(400));
    // Four rows wait: a batch of them, and then its own.
    let late = Error::Late { needs: Duration::from_millis(800) };
    assert_eq!(admit(&queue, soon), Err(late.clone()));
    assert_eq!(push(&queue, job_of(1, Instant::now() + soon, Priority::Normal)).err(), Some(late));
    assert_eq!(admit(&queue, 2 * soon), Ok(()));
    take(&queue);
    assert_eq!(admit(&queue, soon), Ok(()));
}

#[test]
fn those_whom_nobody_awaits_make_nobody_late() {
    let (queue, answers) = full(8);
    take(&queue);
    queue.record(4, Duration::from_millis(400));
    leave(&queue, answers);
    assert_eq!(admit(&queue, Duration::from_millis(500)), Ok(()));
}

#[test]
fn whoever_is_refused_hears_when_the_queue_will_be_drained() {
    let (queue, _answers) = full(16);
    queue.record(4, Duration::from_millis(400));
    assert_eq!(admit(&queue, LONG), Err(overloaded(16, 1600)));
    take(&queue);
    let four = job_of(4, Instant::now() + LONG, Priority::Normal);
    let _answer = push(&queue, four).unwrap();
    assert_eq!((queue.load(), queue.bytes()), (Load { requests: 13, rows: 16 }, 16));
}

#[test]
fn a_request_that_is_too_large_for_one_batch_is_taken_by_several_workers_at_once() {
    let queue = Queue::new(9, 3);
    let all_have_theirs = Barrier::new(3);
    let sizes = thread::scope(|scope| {
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let size = || {
                    let batch = queue.take(|_| LIMITS).unwrap();
                    all_have_theirs.wait();
                    batch.jobs.iter().map(|job| job.rows).sum::<usize>()
                };
                thread::Builder::new().spawn_scoped(scope, size).unwrap()
            })
            .collect();
        until_idle(&queue, 3);
        // One arrival, three batches: who takes a part wakes the next.
        let _answer = push(&queue, job_of(10, Instant::now() + LONG, Priority::Normal)).unwrap();
        let mut sizes: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        sizes.sort_unstable();
        sizes
    });
    assert_eq!(sizes, [2, 4, 4]);
}

#[test]
fn a_worker_takes_its_part_of_what_waits_and_of_what_others_compute() {
    let queue = Queue::new(9, 2);
    let limits = |_: &Job| Limits { max_size: 8, ..LIMITS };
    let _answers: Vec<_> = (0..7).map(|_| push(&queue, job()).unwrap()).collect();
    let first = queue.take(limits).unwrap();
    assert_eq!((first.jobs.len(), first.reason), (4, CutReason::Idle));
    let second = queue.take(limits).unwrap();
    assert_eq!((second.jobs.len(), queue.load().rows), (3, 0));
    drop(first);
    let _answers: Vec<_> = (0..4).map(|_| push(&queue, job()).unwrap()).collect();
    // Three are being computed, four wait.
    assert_eq!(queue.take(limits).unwrap().jobs.len(), 4);
    drop(second);
    let _answers: Vec<_> = (0..4).map(|_| push(&queue, job()).unwrap()).collect();
    assert_eq!(queue.take(limits).unwrap().jobs.len(), 2, "nobody else has any");
}

#[test]
fn an_idle_worker_rather_tries_than_believes_what_was_measured_long_ago() {
    let queue = Queue::new(9, 1);
    let now = Instant::now();
    let mut open = queue.lock();
    let state = open.as_mut().unwrap();
    state.pace.record(1, LONG, now);
    let crew = queue.crew(LIMITS);
    let newcomer = |after| {
        let now = now + Duration::from_millis(after);
        Newcomer { rows: 1, deadline: now + LONG / 2, priority: Priority::Normal, now, job: None }
    };
    assert_eq!(state.needs(&newcomer(2000), &crew), LONG, "all workers are busy");
    state.idle = 1;
    assert_eq!(state.needs(&newcomer(500), &crew), LONG);
    assert_eq!(state.needs(&newcomer(2000), &crew), Duration::ZERO);
}

#[test]
fn a_worker_that_rests_briefly_misses_neither_an_arrival_nor_the_end() {
    for round in 0..40 {
        let queue = Queue { alert: ALERT, ..Queue::new(4, 1) };
        thread::scope(|scope| {
            let (taken, heard) = std::sync::mpsc::channel();
            let queue = &queue;
            scope.spawn(move || take_all(queue, &taken));
            for pause in 0..20 {
                let _answer = push(queue, job()).unwrap();
                let taken = heard.recv_timeout(LONG);
                if taken != Ok(1) {
                    queue.close(); // Else the scope would wait for the worker.
                }
                assert_eq!(taken, Ok(1));
                // Around the moment when the worker goes to sleep.
                thread::sleep(ALERT / 10 * ((pause + round) % 20));
            }
            queue.close();
            assert!(heard.recv_timeout(LONG).is_err(), "the worker ends");
        });
    }
}

#[test]
fn a_worker_stays_awake_for_as_long_as_its_queue_says() {
    for (alert, patience) in [(LONG, LONG), (Duration::ZERO, Duration::from_millis(50))] {
        let queue = Queue { alert, ..Queue::new(9, 1) };
        let _first = push(&queue, job()).unwrap();
        assert_eq!(take(&queue), 1);
        let (second, _answer) = job();
        thread::scope(|scope| {
            let worker = scope.spawn(|| take(&queue));
            until_idle(&queue, 1);
            // News that wakes nobody who sleeps.
            queue.lock().as_mut().unwrap().waiting.push(second);
            queue.news.fetch_add(1, Ordering::Relaxed);
            let told = Instant::now();
            while !worker.is_finished() && told.elapsed() < patience {
                thread::sleep(Duration::from_millis(1));
            }
            let was_awake = worker.is_finished();
            queue.arrived.notify_one(); // Else the scope would wait for the worker.
            assert_eq!(was_awake, !alert.is_zero(), "{alert:?}");
        });
    }
}

#[test]
fn workers_sleep_where_there_is_one_core() {
    assert_eq!(alertness(2), ALERT);
    let on_one_core = || {
        let mut one = CpuSet::new();
        let ours = sched_getaffinity(None).unwrap();
        one.set((0..CpuSet::MAX_CPU).find(|core| ours.is_set(*core)).unwrap());
        sched_setaffinity(None, &one).unwrap(); // This thread's alone.
        Queue::new(9, 1).alert
    };
    assert_eq!(thread::scope(|scope| scope.spawn(on_one_core).join().unwrap()), Duration::ZERO);
}

/// One whose workers have had more requests in hand than are taken as they come.
fn crowded(limit: usize) -> Queue {
    let queue = Queue::new(limit, 1);
    queue.lock().as_mut().unwrap().crowd.came(2 * FEW, Instant::now());
    queue
}

#[tokio::test]
async fn of_a_crowd_a_resting_worker_sees_a_whole_turn_at_once() {
    let queue = Arc::new(crowded(9));
    let rested = queue.clone();
    let worker = tokio::task::spawn_blocking(move || take(&rested));
    until_idle(&queue, 1);
    let herald = tokio::spawn({
        let queue = queue.clone();
        async move { queue.announce_turns().await }
    });
    let mut answers = Vec::new();
    for _ in 0..3 {
        let (job, answer) = job();
        queue.push(job, LIMITS).unwrap();
        answers.push(answer);
        thread::sleep(Duration::from_millis(5)); // The worker would come, if it were woken.
    }
    assert_eq!(worker.await.unwrap(), 3);
    queue.close();
    herald.await.unwrap();
}

#[test]
fn a_few_are_taken_as_they_come() {
    let queue = Queue::new(9, 1);
    thread::scope(|scope| {
        let (taken, heard) = std::sync::mpsc::channel();
        let queue = &queue;
        scope.spawn(move || take_all(queue, &taken));
        let each_is_taken = (0..3).all(|_| {
            until_idle(queue, 1);
            let (job, _answer) = job();
            queue.push(job, LIMITS).unwrap(); // And nobody announces it.
            heard.recv_timeout(LONG) == Ok(1)
        });
        queue.close(); // Else the scope would wait for the worker.
        assert!(each_is_taken);
    });
}

#[test]
fn a_crowd_is_forgotten_batch_by_batch() {
    let queue = crowded(9);
    let is_promised = || queue.lock().as_ref().unwrap().is_promised;
    let mut batches = 0;
    while batches < 2 * FEW {
        let (job, _answer) = job();
        queue.push(job, LIMITS).unwrap();
        if !is_promised() {
            break;
        }
        queue.announce();
        take(&queue);
        batches += 1;
    }
    assert!((FEW / 2..2 * FEW).contains(&batches), "{batches} batches");
}

#[test]
fn requests_in_hand_make_a_crowd_of_those_who_wait() {
    let queue = Queue::new(9 * FEW, 1);
    let limits = |_: &Job| Limits { max_size: FEW, ..LIMITS };
    let mut answers: Vec<_> = (0..FEW).map(|_| push(&queue, job()).unwrap()).collect();
    let batch = queue.take(limits).unwrap();
    assert_eq!((batch.jobs.len(), queue.load().requests), (FEW, 0));
    let (job, answer) = job();
    queue.push(job, LIMITS).unwrap();
    answers.push(answer);
    assert!(queue.lock().as_ref().unwrap().is_promised);
}

/// How many requests are in the batch for which a worker came with one of three waiting; the others come while he waits, if
/// he does.
fn reunited(queue: &Queue) -> usize {
    let answers: Vec<_> = (0..3).map(|_| push(queue, job()).unwrap()).collect();
    assert_eq!(take(queue), answers.len());
    queue.record(3, Duration::from_secs(1));
    let _first = push(queue, job()).unwrap();
    thread::scope(|scope| {
        let worker = scope.spawn(|| take(queue));
        while !worker.is_finished() && queue.lock().as_ref().unwrap().idle == 0 {
            thread::yield_now();
        }
        let _others = [push(queue, job()).unwrap(), push(queue, job()).unwrap()];
        worker.join().unwrap()
    })
}

#[test]
fn those_who_were_answered_together_share_the_next_batch() {
    // He waits for some milliseconds, which this thread may miss.
    assert!((0..100).any(|_| reunited(&Queue::new(9, 1)) == 3));
}

#[test]
fn who_does_not_come_again_is_not_waited_for_any_longer() {
    let queue = Queue::new(9, 1);
    let answers: Vec<_> = (0..3).map(|_| push(&queue, job()).unwrap()).collect();
    assert_eq!(take(&queue), answers.len());
    queue.record(3, Duration::from_secs(1));
    let (_alone, since) = (push(&queue, job()).unwrap(), Instant::now());
    let missing = || queue.lock().as_ref().unwrap().crowd.missing(1);
    assert_eq!(missing(), 2);
    assert_eq!(take(&queue), 1);
    assert!(since.elapsed() >= Duration::from_millis(10));
    assert_eq!(missing(), 0);
}
