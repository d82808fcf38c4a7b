//! An engine whose model returns its input and the sum of each row, and remembers what it computed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::niceness;
use crate::batch::Handle;
use crate::engine::{self, Device, Instance, Layout, Model, Outputs, Slot, Source};
use crate::model::Version;
use crate::model::repository::Found;
use crate::model::spec;
use crate::telemetry::Telemetry;
use crate::tensor::{DType, Tensor};

/// On request, by a row of -1 to -4, it panics, fails, loses its device, or returns its thread's niceness.
#[derive(Clone, Default)]
pub(in crate::batch) struct Echo(pub(super) Arc<Stage>);

#[derive(Default)]
pub(super) struct Stage {
    pub(super) instances: Door,
    pub(super) batches: Door,
    /// Numbers for which there is memory in a batch; zero for any.
    pub(super) memory: AtomicUsize,
    /// The batches that were computed.
    pub(super) seen: Mutex<Vec<Tensor>>,
}

/// What everyone passes, so that a test can hold them there.
#[derive(Default)]
pub(super) struct Door {
    pub(super) shut: Mutex<()>,
    pub(super) came: AtomicUsize,
}

impl Door {
    fn pass(&self) {
        self.came.fetch_add(1, Ordering::Relaxed);
        drop(self.shut.lock());
    }
}

/// `width` numbers a row.
pub(super) fn rows(values: &[i32], width: usize) -> Tensor {
    let shape = if width == 1 { vec![values.len()] } else { vec![values.len() / width, width] };
    let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>().into();
    Tensor { dtype: DType::Int32, shape, bytes }
}

impl Echo {
    /// A model of batches of up to four rows, with a queue of `max_queue` requests, and nobody to compute them.
    pub(super) fn handle(&self, max_queue: usize) -> Handle {
        self.handle_of(4, 1, max_queue, &Telemetry::default())
    }

    pub(super) fn handle_of(&self, max_size: usize, workers: usize, max_queue: usize, telemetry: &Telemetry) -> Handle {
        let version = self.load(["echo", "1"], max_size, workers);
        Handle::new(version, telemetry.model("echo", "1"), max_queue)
    }

    /// A version of a model that is called so.
    pub(in crate::batch) fn load(&self, [name, version]: [&str; 2], max_size: usize, workers: usize) -> Arc<Version> {
        let mut spec = spec::from_inputs(vec![spec::parse_input("x:INT32[-1]").unwrap()]);
        (spec.max_size, spec.instances) = (max_size, workers);
        let found = Found {
            name: name.to_owned(),
            version: version.to_owned(),
            file: "echo.pt".into(),
            spec,
            labels: Vec::new(),
            golden: None,
        };
        Version::load(self, found, Device::Cpu, &mut |_, _| {}).unwrap()
    }

    /// Each batch that was computed since the last call, warm-up apart, as its numbers.
    pub(super) fn seen(&self) -> Vec<Vec<f64>> {
        let seen = std::mem::take(&mut *self.0.seen.lock().unwrap());
        seen.iter().map(Tensor::to_f64).filter(|values| values.iter().any(|value| *value != 0.0)).collect()
    }
}

impl engine::Engine for Echo {
    fn about(&self) -> &engine::About {
        panic!("not asked in these tests")
    }

    fn load(&self, _source: &Source<'_>, _progress: &mut dyn FnMut(u64, u64)) -> Result<Box<dyn Model>, engine::Error> {
        Ok(Box::new(self.clone()))
    }
}

impl Model for Echo {
    fn arguments(&self) -> &[String] {
        static NAMES: std::sync::LazyLock<[String; 1]> = std::sync::LazyLock::new(|| ["x".to_owned()]);
        &*NAMES
    }

    fn instance(&self, _threads: usize) -> Result<Box<dyn Instance>, engine::Error> {
        self.0.instances.pass();
        Ok(Box::new(self.clone()))
    }
}

impl Instance for Echo {
    fn slot(&mut self, inputs: &[Layout]) -> Result<Box<dyn Slot + '_>, engine::Error> {
        let layout = inputs[0].clone();
        let bytes = vec![0; layout.bytes];
        Ok(Box::new(EchoSlot { stage: self.0.clone(), layout, bytes }))
    }

    fn rehearse(&mut self, _trouble: engine::Trouble) -> Result<(), engine::Error> {
        Ok(())
    }
}

struct EchoSlot {
    stage: Arc<Stage>,
    layout: Layout,
    bytes: Vec<u8>,
}

impl Slot for EchoSlot {
    fn input(&mut self, _index: usize) -> &mut [u8] {
        &mut self.bytes
    }

    fn run(self: Box<Self>) -> Result<Outputs, engine::Error> {
        let Self { stage, layout: Layout { dtype, shape, .. }, bytes } = *self;
        stage.batches.pass();
        let mut tensor = Tensor { dtype, shape, bytes: bytes.into() };
        let values = tensor.to_f64();
        let memory = stage.memory.load(Ordering::Relaxed);
        if memory > 0 && values.len() > memory {
            return Err(engine::Error::OutOfMemory(format!("{} numbers are too many", values.len())));
        }
        stage.seen.lock().unwrap().push(tensor.clone());
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
        let width = tensor.row_shape().iter().product();
        let sums = values.chunks(width).flat_map(|row| row.iter().sum::<f64>().to_le_bytes()).collect::<Vec<_>>();
        let sums = Tensor { dtype: DType::Fp64, shape: vec![tensor.rows()], bytes: sums.into() };
        Ok(vec![("y".into(), tensor), ("sum".into(), sums)])
    }
}
