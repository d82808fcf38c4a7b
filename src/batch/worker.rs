//! One OS thread per instance: it proves its instance, then takes batches and computes them for as long as the process
//! lives. Never a task of the async runtime: libtorch gives every calling thread a team of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Error, Handle, Job, Outputs};
use crate::engine::{self, Instance, Layout};
use crate::model::version;
use crate::tensor::Tensor;

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
    loop {
        let jobs = handle.queue.take(handle.version.spec.max_size);
        if !batch_delay.is_zero() {
            thread::sleep(batch_delay);
        }
        run_and_reply(handle, instance.as_mut(), jobs);
    }
}

/// Computes one batch and answers everyone in it, whatever happens.
fn run_and_reply(handle: &Handle, instance: &mut dyn Instance, jobs: Vec<Job>) {
    let started = Instant::now();
    let rows = jobs.iter().map(|job| job.rows).sum();
    // A panic must not take the instance's other callers with it; the instance itself keeps no state between batches.
    let result = catch_unwind(AssertUnwindSafe(|| run(handle, instance, &jobs, rows)))
        .unwrap_or_else(|_| Err(engine::Error::Failed("the worker panicked".to_owned())));
    handle.metrics.batch(rows, started.elapsed());
    match result {
        Ok(outputs) => {
            let mut start = 0;
            for job in jobs {
                let share = |(name, tensor): &(String, Tensor)| (name.clone(), tensor.slice(start..start + job.rows));
                let outputs: Outputs = outputs.iter().map(share).collect();
                start += job.rows;
                handle.metrics.queue_time(started - job.queued);
                // A closed channel is a client that has left.
                let _ = job.reply.send(Ok(outputs));
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

/// One or, for a request of more rows than a batch takes, several forwards over the rows of `jobs`.
fn run(handle: &Handle, instance: &mut dyn Instance, jobs: &[Job], rows: usize) -> Result<Outputs, engine::Error> {
    let max_size = handle.version.spec.max_size;
    if rows <= max_size {
        let parts: Vec<_> = jobs.iter().map(|job| (job, 0..job.rows)).collect();
        return forward(handle, instance, &parts, rows);
    }
    // The policy lets a request above the limit through only when it is alone.
    let mut whole = Outputs::new();
    for start in (0..rows).step_by(max_size) {
        let range = start..rows.min(start + max_size);
        let count = range.len();
        let outputs = forward(handle, instance, &[(&jobs[0], range)], count)?;
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

/// Gathers row ranges into one slot, computes, and returns outputs of `rows` rows.
fn forward(
    handle: &Handle,
    instance: &mut dyn Instance,
    parts: &[(&Job, std::ops::Range<usize>)],
    rows: usize,
) -> Result<Outputs, engine::Error> {
    let layouts: Vec<Layout> = parts[0].0.inputs.iter().map(|tensor| Layout::of_rows(tensor, rows)).collect();
    let mut slot = instance.slot(&layouts)?;
    for index in 0..layouts.len() {
        let mut rest = slot.input(index);
        for (job, range) in parts {
            let bytes = job.inputs[index].row_bytes(range.clone());
            let (here, after) = rest.split_at_mut(bytes.len());
            here.copy_from_slice(bytes);
            rest = after;
        }
    }
    handle.version.check_outputs(slot.run()?, rows)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::batch::Handle;
    use crate::engine::{Device, Model, Slot};
    use crate::model::repository::Found;
    use crate::model::{Version, spec};
    use crate::telemetry::Telemetry;
    use crate::tensor::DType;

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
    async fn a_failing_or_panicking_batch_is_answered_and_the_next_one_works() {
        let handle = echo();
        for poison in [-1, -2] {
            assert!(matches!(ask(&handle, &[poison]).await, Err(Error::Failed(_))));
            assert_eq!(ask(&handle, &[7]).await, Ok(vec![7.0]));
        }
    }
}
