//! Workers over an engine that echoes, and suffers what it is asked to.

mod batching;
pub(in crate::batch) mod echo;

use std::sync::atomic::Ordering;

use futures_util::FutureExt as _;

use super::*;
use crate::batch::{Call, Error, Handle, Priority};
use crate::lifecycle;
use echo::Echo;

/// Of the thread that asks.
fn niceness() -> i32 {
    rustix::process::nice(0).unwrap()
}

fn echo() -> (Handle, lifecycle::Rx) {
    echo_with(&Echo::default(), &Pulse::default())
}

/// One worker of the model, and its queue.
fn echo_with(engine: &Echo, pulse: &Pulse) -> (Handle, lifecycle::Rx) {
    let handle = engine.handle(99);
    let (lifecycle, rx) = lifecycle::channel([]);
    serve(&handle, &lifecycle, pulse);
    (handle, rx)
}

/// Starts a worker of the model.
fn serve(handle: &Handle, lifecycle: &Tx, pulse: &Pulse) {
    let words = spawn(Worker {
        served: (**handle).clone(),
        index: 0,
        options: Options { threads: 1, batch_delay: Duration::ZERO, crowd_delay: Duration::ZERO },
        lifecycle: lifecycle.clone(),
        pulse: pulse.clone(),
        rehearsal: Arc::default(),
        tracer: None,
        budget: Budget::default(),
    });
    assert!(words.unwrap().iter().any(|word| matches!(word, Word::Ready)));
}

/// A request of rows that are one number each.
fn call(values: &[i32]) -> Call {
    let deadline = Instant::now() + Duration::from_secs(30);
    Call {
        inputs: vec![echo::rows(values, 1)],
        rows: values.len(),
        deadline,
        priority: Priority::Normal,
        passage: Arc::default(),
    }
}

/// A request of rows of two numbers.
fn wide(values: &[i32]) -> Call {
    Call { inputs: vec![echo::rows(values, 2)], rows: values.len() / 2, ..call(&[]) }
}

async fn ask(handle: &Handle, values: &[i32]) -> Result<Vec<f64>, Error> {
    handle.infer(call(values)).await.map(|outputs| outputs[0].1.to_f64())
}

#[tokio::test]
async fn every_caller_gets_the_rows_it_sent() {
    let handle = Arc::new(echo().0);
    let callers: Vec<_> = (0..50)
        .map(|caller: i32| {
            let handle = handle.clone();
            // One to eleven rows: below, at and above the largest batch of four.
            let values: Vec<i32> = (0..=caller % 11).map(|row| caller * 100 + row).collect();
            tokio::spawn(async move {
                let expected: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
                assert_eq!(ask(&handle, &values).await, Ok(expected));
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
}

#[tokio::test]
async fn a_request_that_the_model_cannot_bear_spares_its_neighbours() {
    let (handle, _rx) = echo();
    // More at once than one batch takes: some share the poisoned one's.
    let (poisoned, good) = tokio::join!(ask(&handle, &[-2]), async {
        tokio::join!(ask(&handle, &[1]), ask(&handle, &[2]), ask(&handle, &[3]))
    });
    assert!(matches!(poisoned, Err(Error::Failed(_))));
    assert_eq!(good, (Ok(vec![1.0]), Ok(vec![2.0]), Ok(vec![3.0])));
}

#[tokio::test]
async fn a_failing_or_panicking_batch_is_answered_and_the_next_one_works() {
    let (handle, _rx) = echo();
    for poison in [-1, -2] {
        assert!(matches!(ask(&handle, &[poison]).await, Err(Error::Failed(_))));
        assert_eq!(ask(&handle, &[7]).await, Ok(vec![7.0]));
    }
}

#[tokio::test]
async fn a_worker_that_dies_too_often_is_lost_and_nobody_waits_for_it() {
    let (handle, rx) = echo();
    for _ in 0..DEATHS {
        assert!(matches!(ask(&handle, &[-1]).await, Err(Error::Failed(_))));
        assert_eq!(ask(&handle, &[7]).await, Ok(vec![7.0]));
    }
    assert_eq!(rx.state().faults.worst(), None);
    let (last, next) = tokio::join!(ask(&handle, &[-1]), async {
        tokio::task::yield_now().await;
        // Of another shape, so that it never shares the batch.
        handle.infer(wide(&[5, 6])).await
    });
    assert!(matches!(last, Err(Error::Failed(_))));
    assert_eq!(next, Err(Error::Lost));
    assert_eq!(rx.state().faults.latched(), Some(Fault::WorkerLost));
    assert_eq!(ask(&handle, &[7]).await, Err(Error::Lost));
}

#[tokio::test]
async fn a_lost_device_is_a_fault_and_everyone_is_answered() {
    let (handle, mut rx) = echo();
    let (poisoned, others) = tokio::join!(ask(&handle, &[-3]), async {
        tokio::join!(ask(&handle, &[1]), ask(&handle, &[2, 3, 4, 5]), ask(&handle, &[6]))
    });
    assert!(matches!(poisoned, Err(Error::Failed(_))));
    for answer in <[_; 3]>::from(others) {
        assert!(matches!(answer, Err(Error::Failed(_) | Error::Lost)), "{answer:?}");
    }
    let fault = rx.wait_for(|snapshot| snapshot.state.faults.latched()).await;
    assert_eq!(fault, Fault::DeviceLost);
    assert_eq!(ask(&handle, &[7]).await, Err(Error::Lost));
}

#[tokio::test]
async fn whoever_leaves_the_queue_at_the_deadline_is_told_of_the_deadline() {
    let handle = Echo::default().handle(1);
    let deadline = Instant::now() + Duration::from_millis(5);
    let mut late = std::pin::pin!(handle.infer(Call { deadline, ..call(&[1]) }));
    assert!(late.as_mut().now_or_never().is_none());
    while Instant::now() <= deadline {
        thread::yield_now();
    }
    // The queue is full, so that this one takes the place of the other.
    assert!(handle.infer(Call { deadline: deadline + Duration::from_secs(30), ..call(&[1]) }).now_or_never().is_none());
    assert_eq!(late.await, Err(Error::Deadline));
}

#[tokio::test]
async fn a_model_that_nobody_holds_any_more_leaves_once_its_requests_are_done() {
    let (handle, _rx) = echo();
    let version = Arc::downgrade(&handle.version);
    let last = tokio::spawn({
        let handle = handle.clone();
        async move { ask(&handle, &[7]).await }
    });
    drop(handle);
    assert_eq!(last.await.unwrap(), Ok(vec![7.0]));
    while version.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_successor_is_no_nicer_than_its_predecessor() {
    let (handle, _rx) = echo();
    let first = ask(&handle, &[-4]).await;
    assert_eq!(first, Ok(vec![f64::from((niceness() + NICENESS).min(19))]));
    assert!(ask(&handle, &[-1]).await.is_err());
    assert_eq!(ask(&handle, &[-4]).await, first);
}

#[test]
fn a_successor_that_hangs_before_it_works_shows_as_a_hang() {
    let (engine, pulse) = (Echo::default(), Pulse::default());
    let (handle, _rx) = echo_with(&engine, &pulse);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let shut = engine.0.instances.shut.lock().unwrap();
    assert!(runtime.block_on(ask(&handle, &[-1])).is_err());
    while engine.0.instances.came.load(Ordering::Relaxed) < 2 {
        thread::yield_now();
    }
    assert!(Pulse::is_work(pulse.count()));
    drop(shut);
    assert_eq!(runtime.block_on(ask(&handle, &[7])), Ok(vec![7.0]));
}

#[test]
fn deaths_of_long_ago_are_forgiven() {
    let (mut budget, start) = (Budget::default(), Instant::now());
    for minute in 0..100 {
        assert!(budget.spend(start + Duration::from_mins(minute * 3)), "after {minute} deaths");
    }
    let (mut budget, mut deaths) = (Budget::default(), 0);
    while budget.spend(start) {
        deaths += 1;
    }
    assert_eq!(deaths, DEATHS);
}
