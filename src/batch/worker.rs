//! One OS thread per instance: it proves its instance, then takes batches and computes them for as long as the process
//! lives. Never a task of the async runtime: libtorch gives every calling thread a team of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Error, Handle, Job, Outputs};
use crate::engine::{self, Instance};
use crate::model::{Version, version};

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

/// Starts the worker of one instance. Its words end with `Ready` or `Failed`; only a ready worker takes requests.
pub fn spawn(handle: Handle, index: usize, options: Options) -> std::io::Result<mpsc::Receiver<Word>> {
    let (say, words) = mpsc::channel();
    thread::Builder::new().name(format!("{}-{index}", handle.version.name)).spawn(move || {
        match prepare(&handle, options.threads, &say) {
            Ok(instance) => {
                // Nobody listening means that the server gave up starting: then nobody queues requests either.
                let _ = say.send(Word::Ready);
                serve(&handle, instance, options.batch_delay);
            }
            Err(error) => {
                let _ = say.send(Word::Failed(error));
            }
        }
    })?;
    Ok(words)
}

fn prepare(handle: &Handle, threads: usize, say: &mpsc::Sender<Word>) -> Result<Box<dyn Instance>, version::Error> {
    let version = &handle.version;
    let mut instance = version
        .model
        .instance(threads)
        .map_err(|error| version::Error::WarmUp { model: version.id(), reason: error.to_string() })?;
    version.prove(instance.as_mut(), &mut || {
        let _ = say.send(Word::Run);
    })?;
    Ok(instance)
}

fn serve(handle: &Handle, mut instance: Box<dyn Instance>, batch_delay: Duration) {
    let spec = &handle.version.spec;
    loop {
        let jobs = handle.queue.take(spec.max_size, spec.max_delay);
        for job in &jobs {
            handle.metrics.queue_time(job.queued.elapsed());
        }
        run_and_reply(handle, instance.as_mut(), jobs, batch_delay);
    }
}

/// Computes one batch and answers everyone in it, whatever happens.
fn run_and_reply(handle: &Handle, instance: &mut dyn Instance, jobs: Vec<Job>, batch_delay: Duration) {
    let started = Instant::now();
    if !batch_delay.is_zero() {
        thread::sleep(batch_delay);
    }
    let rows = jobs.iter().map(|job| job.rows).sum();
    // A panic must not take the instance's other callers with it; the instance itself keeps no state between batches.
    let result = catch_unwind(AssertUnwindSafe(|| run(&handle.version, instance, &jobs, rows)))
        .unwrap_or_else(|_| Err(engine::Error::Failed("the worker panicked".to_owned())));
    handle.metrics.batch(rows, started.elapsed());
    match result {
        Ok(outputs) => reply(jobs, &outputs),
        // One request's values may be what the model cannot bear: the others must not suffer for it.
        Err(error) if jobs.len() > 1 && !matches!(error, engine::Error::DeviceLost(_)) => {
            tracing::warn!(model = handle.version.id(), rows, %error, "batch failed; trying its requests one by one");
            for job in jobs {
                run_and_reply(handle, instance, vec![job], Duration::ZERO);
            }
        }
        Err(error) => {
            tracing::error!(model = handle.version.id(), rows, %error, "batch failed");
            for job in jobs {
                let _ = job.reply.send(Err(Error::Failed("the model failed on this batch".to_owned())));
            }
        }
    }
}

/// Gives each job its rows of the outputs.
fn reply(jobs: Vec<Job>, outputs: &Outputs) {
    let mut start = 0;
    for job in jobs {
        let rows = start..start + job.rows;
        start = rows.end;
        let outputs = outputs.iter().map(|(name, tensor)| (name.clone(), tensor.slice(rows.clone()))).collect();
        // A closed channel is a client that has left.
        let _ = job.reply.send(Ok(outputs));
    }
}

/// One or, for a request of more rows than a batch takes, several forwards over the rows of `jobs`.
fn run(version: &Version, instance: &mut dyn Instance, jobs: &[Job], rows: usize) -> Result<Outputs, engine::Error> {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::batch::Handle;
    use crate::engine::{Device, Layout, Model, Slot};
    use crate::model::repository::Found;
    use crate::model::spec;
    use crate::telemetry::Telemetry;
    use crate::tensor::{DType, Tensor};

    /// An engine whose model returns its input, and panics or fails on request: rows of -1 or -2.
    struct Echo;
    struct EchoSlot(Tensor);

    impl engine::Engine for Echo {
        fn about(&self) -> &engine::About {
            panic!("not asked in these tests")
        }

        fn load(
            &self,
            _path: &std::path::Path,
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
            Ok(vec![("y".to_owned(), self.0)])
        }
    }

    fn echo() -> Handle {
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
        let options = Options { threads: 1, batch_delay: Duration::ZERO };
        let words = spawn(handle.clone(), 0, options).unwrap();
        assert!(words.iter().any(|word| matches!(word, Word::Ready)));
        handle
    }

    async fn ask(handle: &Handle, values: &[i32]) -> Result<Vec<f64>, Error> {
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let tensor = Tensor { dtype: DType::Int32, shape: vec![values.len()], bytes };
        let deadline = Instant::now() + Duration::from_secs(30);
        handle.infer(vec![tensor], values.len(), deadline).await.map(|outputs| outputs[0].1.to_f64())
    }

    #[tokio::test]
    async fn every_caller_gets_the_rows_it_sent() {
        let handle = Arc::new(echo());
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
        let handle = echo();
        // More at once than one batch takes: some share the poisoned one's.
        let (poisoned, good) = tokio::join!(ask(&handle, &[-2]), async {
            tokio::join!(ask(&handle, &[1]), ask(&handle, &[2]), ask(&handle, &[3]))
        });
        assert!(matches!(poisoned, Err(Error::Failed(_))));
        assert_eq!(good, (Ok(vec![1.0]), Ok(vec![2.0]), Ok(vec![3.0])));
    }

    #[tokio::test]
    async fn a_failing_or_panicking_batch_is_answered_and_the_next_one_works() {
        let handle = echo();
        for poison in [-1, -2] {
            assert!(matches!(ask(&handle, &[poison]).await, Err(Error::Failed(_))));
            assert_eq!(ask(&handle, &[7]).await, Ok(vec![7.0]));
        }
    }
}
