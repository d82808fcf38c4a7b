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

use super::Handle;
use super::run::{self, End};
use crate::chaos::Rehearsal;
use crate::engine::Instance;
use crate::lifecycle::pulse::Pulse;
use crate::lifecycle::{Event, Fault, Tx};
use crate::model::version;

/// A worker may die this often…
const DEATHS: usize = 5;
/// …within this time. One more, and it is lost.
const WINDOW: Duration = Duration::from_mins(10);
/// How far computing steps back behind I/O. One step lets a waking I/O thread go first and costs no throughput; ten cost
/// a third of it at eight connections on two cores, for probes that were a millisecond quicker.
const NICENESS: i32 = 1;

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
}

/// A worker, apart from the instance, which never leaves its thread.
pub struct Worker {
    pub handle: Handle,
    pub index: usize,
    pub options: Options,
    pub lifecycle: Tx,
    /// Shows the watchdog that batches go on.
    pub pulse: Pulse,
    pub rehearsal: Arc<Rehearsal>,
    pub budget: Budget,
}

/// Starts a worker. Its words end with `Ready` or `Failed`; only a ready worker takes requests.
pub fn spawn(worker: Worker) -> io::Result<mpsc::Receiver<Word>> {
    let (say, words) = mpsc::channel();
    worker.on_a_thread(move |worker| match worker.prepare(&say) {
        Ok(instance) => {
            // Nobody listening means that the server gave up starting: then nobody queues requests either.
            let _ = say.send(Word::Ready);
            worker.serve(instance);
        }
        Err(error) => {
            let _ = say.send(Word::Failed(error));
        }
    })?;
    Ok(words)
}

impl Worker {
    fn on_a_thread(self, live: impl FnOnce(Self) + Send + 'static) -> io::Result<()> {
        let name = format!("{}-{}", self.handle.version.name, self.index);
        let live = move || {
            // Lowering one's own priority is always allowed on Linux; libtorch's team inherits it.
            let _ = rustix::process::nice(NICENESS);
            live(self);
        };
        thread::Builder::new().name(name).spawn(live).map(drop)
    }

    fn prepare(&self, say: &mpsc::Sender<Word>) -> Result<Box<dyn Instance>, version::Error> {
        let version = &self.handle.version;
        let mut instance = version
            .model
            .instance(self.options.threads)
            .map_err(|error| version::Error::WarmUp { model: version.id(), reason: error.to_string() })?;
        version.prove(instance.as_mut(), &mut || {
            let _ = say.send(Word::Run);
        })?;
        Ok(instance)
    }

    /// Takes batches until nobody brings any more, or until one of them ends this worker.
    fn serve(self, mut instance: Box<dyn Instance>) {
        let spec = &self.handle.version.spec;
        while let Some(jobs) = self.handle.queue.take(spec.max_size, spec.max_delay) {
            for job in &jobs {
                self.handle.metrics.queue_time(job.queued.elapsed());
            }
            match run::batch(&self, instance.as_mut(), jobs) {
                End::Answered => {}
                End::DeviceLost(reason) => return give_up(&self.handle, &self.lifecycle, Fault::DeviceLost, &reason),
                End::Panicked => {
                    drop(instance);
                    return self.hand_over();
                }
            }
        }
    }

    /// Leaves the work to a successor, or to nobody where the budget is spent.
    fn hand_over(mut self) {
        let (handle, lifecycle) = (self.handle.clone(), self.lifecycle.clone());
        let give_up = move |reason: &str| give_up(&handle, &lifecycle, Fault::WorkerLost, reason);
        if !self.budget.spend(Instant::now()) {
            return give_up(&format!("a worker panicked more than {DEATHS} times within {WINDOW:?}"));
        }
        self.handle.metrics.worker_restart();
        tracing::warn!(model = self.handle.version.id(), worker = self.index, "restarting the worker");
        let if_not_started = give_up.clone();
        let started = self.on_a_thread(move |worker| {
            match worker.handle.version.model.instance(worker.options.threads) {
                // It needs no warm-up: what libtorch has optimised belongs to the model.
                Ok(instance) => worker.serve(instance),
                Err(error) => give_up(&format!("a worker's successor has no instance: {error}")),
            }
        });
        if let Err(error) = started {
            if_not_started(&format!("a worker's successor has no thread: {error}"));
        }
    }
}

/// The model cannot be served any more: says so, and answers everyone who waits for it.
fn give_up(handle: &Handle, lifecycle: &Tx, fault: Fault, reason: &str) {
    lifecycle.apply(Event::Raised(fault), &format!("{}: {reason}", handle.version.id()));
    handle.queue.close();
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
mod tests {
    use std::path::Path;

    use super::*;
    use crate::batch::{Error, Handle};
    use crate::engine::{self, Device, Layout, Model, Slot};
    use crate::lifecycle;
    use crate::model::Version;
    use crate::model::repository::Found;
    use crate::model::spec;
    use crate::telemetry::Telemetry;
    use crate::tensor::{DType, Tensor};

    /// An engine whose model returns its input, and panics, fails or loses its device on request: rows of -1, -2 or -3.
    struct Echo;
    struct EchoSlot(Tensor);

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
            Ok(Box::new(Echo))
        }
    }

    impl Model for Echo {
        fn arguments(&self) -> &[String] {
            static NAMES: std::sync::LazyLock<[String; 1]> = std::sync::LazyLock::new(|| ["x".to_owned()]);
            &*NAMES
        }

        fn instance(&self, _threads: usize) -> Result<Box<dyn Instance>, engine::Error> {
            Ok(Box::new(Echo))
        }
    }

    impl Instance for Echo {
        fn slot(&mut self, inputs: &[Layout]) -> Result<Box<dyn Slot + '_>, engine::Error> {
            let layout = inputs[0].clone();
            Ok(Box::new(EchoSlot(Tensor { dtype: layout.dtype, bytes: vec![0; layout.bytes()], shape: layout.shape })))
        }

        fn rehearse(&mut self, _trouble: engine::Trouble) -> Result<(), engine::Error> {
            Ok(())
        }
    }

    impl Slot for EchoSlot {
        fn input(&mut self, _index: usize) -> &mut [u8] {
            &mut self.0.bytes
        }

        fn run(self: Box<Self>) -> Result<Vec<(String, Tensor)>, engine::Error> {
            let values = self.0.to_f64();
            assert!(!values.contains(&-1.0), "asked to panic");
            if values.contains(&-2.0) {
                return Err(engine::Error::Failed("asked to fail".to_owned()));
            }
            if values.contains(&-3.0) {
                return Err(engine::Error::DeviceLost("asked to lose it".to_owned()));
            }
            Ok(vec![("y".to_owned(), self.0)])
        }
    }

    fn echo() -> (Handle, lifecycle::Rx) {
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
        let version = Version::load(&Echo, found, Device::Cpu, &mut |_, _| {}).unwrap();
        let handle = Handle::new(version, Telemetry::new().model("echo", "1"), 99);
        let (lifecycle, rx) = lifecycle::channel([]);
        let words = spawn(Worker {
            handle: handle.clone(),
            index: 0,
            options: Options { threads: 1, batch_delay: Duration::ZERO },
            lifecycle,
            pulse: Pulse::default(),
            rehearsal: Arc::default(),
            budget: Budget::default(),
        });
        assert!(words.unwrap().iter().any(|word| matches!(word, Word::Ready)));
        (handle, rx)
    }

    async fn ask(handle: &Handle, values: &[i32]) -> Result<Vec<f64>, Error> {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let tensor = Tensor { dtype: DType::Int32, shape: vec![values.len()], bytes };
        let deadline = Instant::now() + Duration::from_secs(30);
        handle.infer(vec![tensor], values.len(), deadline).await.map(|outputs| outputs[0].1.to_f64())
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
            assert!(matches!(answer, Err(Error::Failed(_) | Error::Lost)) || answer == Ok(vec![1.0]), "{answer:?}");
        }
        let fault = rx.wait_for(|snapshot| snapshot.state.faults.latched()).await;
        assert_eq!(fault, Fault::DeviceLost);
        assert_eq!(ask(&handle, &[7]).await, Err(Error::Lost));
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
}
