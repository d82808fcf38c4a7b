//! What shares a batch, what is split and what is never computed, over real workers.

use std::future::Future;
use std::pin::Pin;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use super::*;
use crate::batch::Outputs;
use crate::batch::pace::Load;
use crate::lifecycle::Snapshot;
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::{CutReason, Scrape};

/// A model with a worker that is held at its first batch, so that the queue fills as a test says.
struct Held {
    engine: Echo,
    handle: Handle,
    _rx: lifecycle::Rx,
}

type Asked<'a> = Pin<Box<dyn Future<Output = Result<Outputs, Error>> + Send + 'a>>;

impl Held {
    fn new() -> Self {
        let engine = Echo::default();
        let (handle, rx) = echo_with(&engine, &Pulse::default());
        engine.seen();
        Self { engine, handle, _rx: rx }
    }

    fn shut(&self) -> MutexGuard<'_, ()> {
        self.engine.0.batches.shut.lock().unwrap()
    }

    /// Queues a request, and announces it.
    fn ask(&self, call: Call) -> Asked<'_> {
        let mut asked: Asked<'_> = Box::pin(self.handle.infer(call));
        assert!(asked.as_mut().now_or_never().is_none(), "answered at once");
        self.handle.queue.announce();
        asked
    }

    /// Queues a request that the worker takes, and is held at.
    fn occupy(&self) -> Asked<'_> {
        let before = self.engine.0.batches.came.load(Ordering::Relaxed);
        let asked = self.ask(call(&[99]));
        while self.engine.0.batches.came.load(Ordering::Relaxed) == before {
            thread::yield_now();
        }
        asked
    }
}

fn low(values: &[i32]) -> Call {
    Call { priority: Priority::Low, ..call(values) }
}

fn numbers(outputs: Result<Outputs, Error>) -> Vec<f64> {
    outputs.unwrap()[0].1.to_f64()
}

#[tokio::test]
async fn requests_of_alternating_shapes_and_of_two_priorities_share_batches() {
    let held = Held::new();
    let shut = held.shut();
    let mut asked = vec![held.occupy()];
    for call in [low(&[1]), call(&[2]), wide(&[3, 4]), call(&[5]), wide(&[6, 7]), low(&[8, 9]), call(&[10])] {
        asked.push(held.ask(call));
    }
    drop(shut);
    let mut answers = Vec::new();
    for asked in asked {
        answers.push(numbers(asked.await));
    }
    let sent: [&[f64]; 8] = [&[99.0], &[1.0], &[2.0], &[3.0, 4.0], &[5.0], &[6.0, 7.0], &[8.0, 9.0], &[10.0]];
    assert_eq!(answers, sent);
    let batches: [&[f64]; 4] = [&[99.0], &[2.0, 5.0, 10.0, 1.0], &[3.0, 4.0, 6.0, 7.0], &[8.0, 9.0]];
    assert_eq!(held.engine.seen(), batches);
}

#[tokio::test]
async fn whoever_leaves_or_is_too_late_is_not_computed() {
    let held = Held::new();
    let shut = held.shut();
    let first = held.occupy();
    let kept = held.ask(call(&[1]));
    drop(held.ask(call(&[2])));
    let deadline = Instant::now() + Duration::from_millis(20);
    let late = held.ask(Call { deadline, ..call(&[3, 4, 5, 6, 7, 8]) });
    drop(held.ask(call(&[9, 10, 11, 12, 13])));
    let also_kept = held.ask(call(&[14]));
    while Instant::now() <= deadline {
        thread::yield_now();
    }
    drop(shut);
    assert_eq!(late.await, Err(Error::Deadline));
    let (_, one, two) = tokio::join!(first, kept, also_kept);
    assert_eq!((numbers(one), numbers(two)), (vec![1.0], vec![14.0]));
    assert_eq!(held.engine.seen(), [vec![99.0], vec![1.0, 14.0]]);
}

#[tokio::test]
async fn a_part_that_fails_fails_its_request_once_and_the_rest_is_not_computed() {
    let held = Held::new();
    let shut = held.shut();
    let (first, failing, next) = (held.occupy(), held.ask(call(&[1, 2, 3, -2, 5, 6, 7, 8, 9])), held.ask(call(&[10])));
    drop(shut);
    let (_, failed, next) = tokio::join!(first, failing, next);
    assert!(matches!(failed, Err(Error::Failed(_))), "{failed:?}");
    assert_eq!(numbers(next), [10.0]);
    assert_eq!(held.engine.seen(), [vec![99.0], vec![1.0, 2.0, 3.0, -2.0], vec![10.0]]);
}

#[tokio::test]
async fn a_newcomer_that_would_be_too_late_is_refused_and_costs_nothing() {
    let held = Held::new();
    let shut = held.shut();
    let first = held.occupy();
    thread::sleep(Duration::from_millis(300)); // So long the batch takes, at least.
    drop(shut);
    first.await.unwrap();
    let soon = Instant::now() + Duration::from_millis(150);
    let late = held.handle.infer(Call { deadline: soon, ..call(&[1]) }).await;
    assert!(matches!(late, Err(Error::Late { needs }) if needs >= Duration::from_millis(300)), "{late:?}");
    assert!(matches!(held.handle.admit(1, soon, Priority::Normal), Err(Error::Late { .. })));
    assert!(Instant::now() < soon, "refused at once");
    assert_eq!(ask(&held.handle, &[2]).await, Ok(vec![2.0]));
    assert_eq!(held.engine.seen(), [[99.0], [2.0]]);
}

/// The metrics, as Prometheus sees them.
fn rendered(telemetry: &Telemetry, snapshot: &Snapshot) -> String {
    telemetry.render(&Scrape::of(snapshot))
}

#[tokio::test]
async fn a_version_that_has_left_has_nothing_waiting() {
    let (engine, telemetry, (_lifecycle, rx)) = (Echo::default(), Telemetry::default(), lifecycle::channel([]));
    let handle = engine.handle_of(4, 1, 99, &telemetry);
    let told = |requests: usize, rows: usize| {
        let text = rendered(&telemetry, &rx.snapshot());
        let is_there = |noun: &str, value| {
            text.contains(&format!("torchpod_queue_{noun}{{model=\"echo\",version=\"1\"}} {value}\n"))
        };
        is_there("requests", requests) && is_there("rows", rows)
    };
    let mut asked = Box::pin(handle.infer(call(&[1, 2, 3])));
    assert!(asked.as_mut().now_or_never().is_none(), "nobody computes it");
    handle.count_waiting();
    assert!(told(1, 3));
    drop(asked);
    drop(handle);
    assert!(told(0, 0));
}

#[tokio::test]
async fn a_batch_for_which_there_is_no_memory_is_computed_in_halves_and_the_next_ones_are_smaller() {
    let (engine, telemetry, (lifecycle, rx)) = (Echo::default(), Telemetry::default(), lifecycle::channel([]));
    let handle = engine.handle_of(32, 1, 99, &telemetry);
    serve(&handle, &lifecycle, &Pulse::default());
    let max_rows = |rows| format!("torchpod_batch_max_rows{{model=\"echo\",version=\"1\"}} {rows}\n");
    assert!(rendered(&telemetry, &rx.snapshot()).contains(&max_rows(32)));
    engine.seen();
    engine.0.memory.store(5, Ordering::Relaxed);
    let tries = || engine.0.batches.came.load(Ordering::Relaxed);
    let before = tries();
    let values: Vec<i32> = (1..=32).collect();
    let expected: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
    assert_eq!(ask(&handle, &values).await, Ok(expected.clone()));
    // 32, 16 and 8 were too many, each once.
    assert_eq!(tries() - before, 3 + 8);
    let batches: Vec<_> = expected.chunks(4).map(<[f64]>::to_vec).collect();
    assert_eq!(engine.seen(), batches);
    let halved = tries();
    assert_eq!(ask(&handle, &values).await, Ok(expected));
    assert_eq!(engine.seen(), batches);
    assert_eq!(tries() - halved, 8, "nothing is tried in vain any more");
    let text = rendered(&telemetry, &rx.snapshot());
    assert!(text.contains(&max_rows(4)), "{text}");
    assert!(text.contains("torchpod_batch_cuts_total{model=\"echo\",version=\"1\",reason=\"full\"} 9\n"), "{text}");
}

#[tokio::test]
async fn a_row_for_which_there_is_no_memory_is_refused_and_costs_the_others_nothing() {
    let held = Held::new();
    held.engine.0.memory.store(5, Ordering::Relaxed);
    let shut = held.shut();
    let first = held.occupy();
    // Six numbers a row, two rows; and rows of one number.
    let large = Call { inputs: vec![echo::rows(&[7; 12], 6)], rows: 2, ..call(&[]) };
    let (large, small) = (held.ask(large), held.ask(call(&[1, 2, 3, 4])));
    drop(shut);
    let (_, large, small) = tokio::join!(first, large, small);
    assert_eq!(large, Err(Error::OutOfMemory));
    assert_eq!(numbers(small), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(held.engine.seen(), [vec![99.0], vec![1.0, 2.0, 3.0, 4.0]]);
}

#[tokio::test]
async fn every_reason_for_a_cut_is_counted() {
    use CutReason::{Deadline, Delay, Full, Idle, Shape};
    let (telemetry, (_lifecycle, rx)) = (Telemetry::default(), lifecycle::channel([]));
    let metrics = telemetry.model("echo", "1");
    for (times, reason) in (1..).zip([Full, Idle, Delay, Deadline, Shape]) {
        (0..times).for_each(|_| metrics.cut(reason));
    }
    let text = rendered(&telemetry, &rx.snapshot());
    for (times, reason) in (1..).zip(["full", "idle", "delay", "deadline", "shape"]) {
        let line = format!("torchpod_batch_cuts_total{{model=\"echo\",version=\"1\",reason=\"{reason}\"}} {times}\n");
        assert!(text.contains(&line), "{line} in {text}");
    }
}

/// One caller's requests, one after the other: of 1 to 100 rows, of one to three numbers each, some of low priority.
/// Returns how many rows it asked for, and how many it got.
async fn call_on(handle: Handle, seed: u64, patience: Option<u32>) -> [usize; 2] {
    let (mut random, [mut sent, mut got]) = (fastrand::Rng::with_seed(seed), [0, 0]);
    for _ in 0..20 {
        let (rows, width) = (random.usize(1..=100), random.usize(1..=3));
        let values: Vec<i32> = (0..rows * width).map(|_| random.i32(1..)).collect();
        let priority = if random.bool() { Priority::Normal } else { Priority::Low };
        let call = Call { inputs: vec![echo::rows(&values, width)], rows, priority, ..call(&[]) };
        sent += rows;
        let asked = handle.infer(call);
        // Whoever has no patience leaves after some turns of the runtime.
        let turns = patience.map(|turns| random.u32(0..turns));
        let leave = async {
            for _ in 0..turns.unwrap_or_default() {
                tokio::task::yield_now().await;
            }
            if turns.is_none() {
                std::future::pending::<()>().await;
            }
        };
        let outputs = tokio::select! { outputs = asked => outputs.unwrap(), () = leave => continue };
        assert_eq!(outputs[0].1, echo::rows(&values, width));
        let sums: Vec<f64> = values.chunks(width).map(|row| row.iter().copied().map(f64::from).sum()).collect();
        assert_eq!((outputs[1].1.to_f64(), outputs[1].1.shape.as_slice()), (sums, [rows].as_slice()));
        got += rows;
    }
    [sent, got]
}

/// 64 callers at once, every second of them without patience, three workers: the rows that were asked for, computed and
/// answered.
async fn storm(patience: Option<u32>) -> [usize; 3] {
    let (engine, (lifecycle, rx)) = (Echo::default(), lifecycle::channel([]));
    let handle = engine.handle_of(32, 3, 99, &Telemetry::default());
    for _ in 0..3 {
        serve(&handle, &lifecycle, &Pulse::default());
    }
    engine.seen();
    let callers = (0..64).map(|seed| tokio::spawn(call_on(handle.clone(), seed, patience.filter(|_| seed % 2 == 0))));
    let [mut asked, mut answered] = [0, 0];
    for caller in callers.collect::<Vec<_>>() {
        let [sent, got] = caller.await.unwrap();
        (asked, answered) = (asked + sent, answered + got);
    }
    let batches: Vec<usize> = engine.0.seen.lock().unwrap().iter().map(crate::tensor::Tensor::rows).collect();
    assert!(batches.iter().all(|rows| (1..=32).contains(rows)), "{batches:?}");
    assert_eq!(handle.queue.load(), Load::default());
    assert_eq!(rx.state().faults.worst(), None);
    [asked, batches.iter().sum(), answered]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_split_and_shared_every_caller_gets_its_rows_bit_for_bit_and_each_is_computed_once() {
    let [asked, computed, answered] = storm(None).await;
    assert_eq!((computed, answered), (asked, asked));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_leave_at_random_leave_the_others_answered_right() {
    let [asked, computed, answered] = storm(Some(50)).await;
    assert!(answered <= computed && computed <= asked && answered < asked, "{asked}, {computed}, {answered}");
}
