//! Workers over an engine that echoes, and suffers what it is asked to.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::FutureExt as _;

use super::*;
use crate::batch::{Call, Error, Handle, Priority};
use crate::engine::{self, Device, Layout, Model, Slot};
use crate::lifecycle;
use crate::model::Version;
use crate::model::repository::Found;
use crate::model::spec;
use crate::telemetry::Telemetry;
use crate::tensor::{DType, Tensor};

/// An engine whose model returns its input. On request, by a row of -1 to -4, it panics, fails, loses its device, or
/// returns its thread's niceness.
#[derive(Clone, Default)]
struct Echo(Arc<Door>);
struct EchoSlot(Layout, Vec<u8>);

/// What every new instance passes.
#[derive(Default)]
struct Door {
    shut: Mutex<()>,
    came: AtomicUsize,
}

impl engine::Engine for Echo {
    fn about(&self) -> &engine::About {
        panic!("not asked in these tests")
    }

    fn load(
        &self,
        _path: &Path,
        _device: Device,
        _progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Box<dyn Model>, engine::Error> {
        Ok(Box::new(self.clone()))
    }
}

impl Model for Echo {
    fn arguments(&self) -> &[String] {
        static NAMES: std::sync::LazyLock<[String; 1]> = std::sync::LazyLock::new(|| ["x".to_owned()]);
        &*NAMES
    }

    fn instance(&self, _threads: usize) -> Result<Box<dyn Instance>, engine::Error> {
        self.0.came.fetch_add(1, Ordering::Relaxed);
        drop(self.0.shut.lock());
        Ok(Box::new(self.clone()))
    }
}

impl Instance for Echo {
    fn slot(&mut self, inputs: &[Layout]) -> Result<Box<dyn Slot + '_>, engine::Error> {
        let layout = inputs[0].clone();
        let bytes = vec![0; layout.bytes()];
        Ok(Box::new(EchoSlot(layout, bytes)))
    }

    fn rehearse(&mut self, _trouble: engine::Trouble) -> Result<(), engine::Error> {
        Ok(())
    }
}

impl Slot for EchoSlot {
    fn input(&mut self, _index: usize) -> &mut [u8] {
        &mut self.1
    }

    fn run(self: Box<Self>) -> Result<Vec<(String, Tensor)>, engine::Error> {
        let Self(Layout { dtype, shape }, bytes) = *self;
        let mut tensor = Tensor { dtype, shape, bytes: bytes.into() };
        let values = tensor.to_f64();
        assert!(!values.contains(&-1.0), "asked to panic");
        if values.contains(&-2.0) {
            return Err(engine::Error::Failed("asked to fail".to_owned()));
        }
        if values.contains(&-3.0) {
            return Err(engine::Error::DeviceLost("asked to lose it".to_owned()));
        }
        if values == [-4.0] {
            tensor.bytes = niceness().to_le_bytes().to_vec().into();
        }
        Ok(vec![("y".to_owned(), tensor)])
    }
}

/// Of the thread that asks.
fn niceness() -> i32 {
    rustix::process::nice(0).unwrap()
}

fn echo() -> (Handle, lifecycle::Rx) {
    echo_with(&Echo::default(), &Pulse::default())
}

/// A model with a queue of `max_queue` requests, and nobody to compute them.
fn handle(engine: &Echo, max_queue: usize) -> Handle {
    let mut spec = spec::from_inputs(vec![spec::parse_input("x:INT32[-1]").unwrap()]);
    spec.max_size = 4;
    let found = Found {
        name: "echo".to_owned(),
        version: "1".to_owned(),
        file: "echo.pt".into(),
        spec,
        labels: Vec::new(),
        golden: None,
    };
    let version = Version::load(engine, found, Device::Cpu, &mut |_, _| {}).unwrap();
    Handle::new(version, Telemetry::new().model("echo", "1"), max_queue)
}

fn echo_with(engine: &Echo, pulse: &Pulse) -> (Handle, lifecycle::Rx) {
    let handle = handle(engine, 99);
    let (lifecycle, rx) = lifecycle::channel([]);
    let words = spawn(Worker {
        served: (*handle).clone(),
        index: 0,
        options: Options { threads: 1, batch_delay: Duration::ZERO },
        lifecycle,
        pulse: pulse.clone(),
        rehearsal: Arc::default(),
        budget: Budget::default(),
    });
    assert!(words.unwrap().iter().any(|word| matches!(word, Word::Ready)));
    (handle, rx)
}

async fn ask(handle: &Handle, values: &[i32]) -> Result<Vec<f64>, Error> {
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>().into();
    let tensor = Tensor { dtype: DType::Int32, shape: vec![values.len()], bytes };
    let deadline = Instant::now() + Duration::from_secs(30);
    handle
        .infer(Call { inputs: vec![tensor], rows: values.len(), deadline, priority: Priority::Normal })
        .await
        .map(|outputs| outputs[0].1.to_f64())
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
        ask(&handle, &[5, 6, 7, 8]).await
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
    let handle = handle(&Echo::default(), 1);
    let deadline = Instant::now() + Duration::from_millis(5);
    let mut late =
        std::pin::pin!(handle.infer(Call { inputs: Vec::new(), rows: 1, deadline, priority: Priority::Normal }));
    assert!(late.as_mut().now_or_never().is_none());
    while Instant::now() <= deadline {
        thread::yield_now();
    }
    // The queue is full, so that this one takes the place of the other.
    assert!(
        handle
            .infer(Call {
                inputs: Vec::new(),
                rows: 1,
                deadline: deadline + Duration::from_secs(30),
                priority: Priority::Normal
            })
            .now_or_never()
            .is_none()
    );
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
    let shut = engine.0.shut.lock().unwrap();
    assert!(runtime.block_on(ask(&handle, &[-1])).is_err());
    while engine.0.came.load(Ordering::Relaxed) < 2 {
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
