//! A loaded version of a model, and the proof that it computes what it promised.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::digest::Digest;
use super::golden::{self, Golden};
use super::repository::Found;
use super::spec::Spec;
use crate::engine::{self, Device, Engine, Instance, Layout};
use crate::tensor::Tensor;

/// Runs of each warm-up size: libtorch profiles the first, optimises the second, and only then shows its real speed.
const RUNS: usize = 3;

/// A model in memory, on its device.
pub struct Version {
    pub name: String,
    pub version: String,
    pub spec: Spec,
    /// Per output of the spec: its labels.
    pub labels: Vec<Option<Vec<String>>>,
    pub device: Device,
    /// Of the file it was read from; set by whoever computes it, beside the load.
    pub digest: OnceLock<Digest>,
    pub model: Box<dyn engine::Model>,
    golden: Option<Golden>,
}

/// Why a model could not be loaded. The text names the model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{model} cannot be loaded from {path}: {reason}; hint: {hint}")]
    Load { model: String, path: String, reason: String, hint: &'static str },
    #[error("{model} takes {arguments:?}, but its model.toml names the inputs {inputs:?}")]
    Arguments { model: String, arguments: Vec<String>, inputs: Vec<String> },
    #[error("the golden file of {model}: {reason}")]
    Golden { model: String, reason: String },
    #[error(
        "{model} does not compute its golden outputs: {reason}; hint: the weights and the golden file are not of one training run, or the device computes differently"
    )]
    Differs { model: String, reason: String },
    #[error("{model} failed in its warm-up: {reason}")]
    WarmUp { model: String, reason: String },
}

impl Version {
    /// Reads the weights and moves them to `device`; `progress` hears bytes read and in all.
    pub fn load(
        engine: &dyn Engine,
        found: Found,
        device: Device,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Arc<Self>, Error> {
        let id = format!("{}@{}", found.name, found.version);
        let golden = found.golden.map(|text| golden::parse(&text, &found.spec)).transpose();
        let golden = golden.map_err(|reason| Error::Golden { model: id.clone(), reason })?;
        let model = engine.load(&found.file, device, progress).map_err(|error| Error::Load {
            model: id.clone(),
            path: found.file.display().to_string(),
            reason: error.gist(),
            hint: "expected a TorchScript archive, whole, as torch.jit.save writes it",
        })?;
        let inputs: Vec<String> = found.spec.inputs.iter().map(|port| port.name.clone()).collect();
        if !answers_to(model.arguments(), &inputs) {
            return Err(Error::Arguments { model: id, arguments: model.arguments().to_vec(), inputs });
        }
        Ok(Arc::new(Self {
            name: found.name,
            version: found.version,
            spec: found.spec,
            labels: found.labels,
            device,
            digest: OnceLock::new(),
            model,
            golden,
        }))
    }

    /// `digits@1`.
    pub fn id(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// How many runs [`Self::prove`] takes.
    pub fn proof_runs(&self) -> usize {
        let golden = self.golden.as_ref().map_or(0, |golden| golden.rows.div_ceil(self.spec.max_size));
        golden + self.spec.warm_up.len() * RUNS
    }

    /// Computes the golden rows and the warm-up batches on `instance`; `done` hears of each run.
    pub fn prove(&self, instance: &mut dyn Instance, done: &mut dyn FnMut()) -> Result<(), Error> {
        if let Some(golden) = &self.golden {
            self.compare(golden, instance, done)?;
        }
        for rows in &self.spec.warm_up {
            let inputs = self.layouts(*rows).into_iter().map(zeros).collect::<Result<Vec<_>, _>>();
            let inputs = inputs.map_err(|reason| Error::WarmUp { model: self.id(), reason })?;
            for _ in 0..RUNS {
                self.forward(instance, &[(&inputs, 0..*rows)], *rows)
                    .map_err(|error| Error::WarmUp { model: self.id(), reason: error.gist() })?;
                done();
            }
        }
        Ok(())
    }

    fn compare(&self, golden: &Golden, instance: &mut dyn Instance, done: &mut dyn FnMut()) -> Result<(), Error> {
        let tolerance = self.spec.golden.as_ref().map_or(0.0, |golden| golden.tolerance);
        let differs = |reason| Error::Differs { model: self.id(), reason };
        for start in (0..golden.rows).step_by(self.spec.max_size) {
            let rows = start..golden.rows.min(start + self.spec.max_size);
            let got = self
                .forward(instance, &[(&golden.inputs, rows.clone())], rows.len())
                .map_err(|error| differs(error.gist()))?;
            for ((name, got), expected) in got.iter().zip(&golden.outputs) {
                golden::compare(name, got, &expected.slice(rows.clone()), tolerance).map_err(differs)?;
            }
            done();
        }
        Ok(())
    }

    /// Gathers ranges of rows into one slot, computes, and returns outputs of `rows` rows, which is the ranges' sum.
    ///
    /// Each part has one tensor per input of the spec; their row shapes are equal.
    pub fn forward(
        &self,
        instance: &mut dyn Instance,
        parts: &[(&[Tensor], Range<usize>)],
        rows: usize,
    ) -> Result<Vec<(String, Tensor)>, engine::Error> {
        let layouts: Vec<Layout> = parts[0].0.iter().map(|tensor| Layout::of_rows(tensor, rows)).collect();
        let mut slot = instance.slot(&layouts)?;
        for index in 0..layouts.len() {
            let mut rest = slot.input(index);
            for (inputs, range) in parts {
                let bytes = inputs[index].row_bytes(range.clone());
                let (here, after) = rest.split_at_mut(bytes.len());
                here.copy_from_slice(bytes);
                rest = after;
            }
        }
        self.check_outputs(slot.run()?, rows)
    }

    /// Gives the outputs the names of the spec and refuses what a batch cannot be split from.
    fn check_outputs(
        &self,
        mut outputs: Vec<(String, Tensor)>,
        rows: usize,
    ) -> Result<Vec<(String, Tensor)>, engine::Error> {
        let wanted = &self.spec.outputs;
        if !wanted.is_empty() && wanted.len() != outputs.len() {
            let message = format!("the model returns {} outputs, its model.toml names {}", outputs.len(), wanted.len());
            return Err(engine::Error::Failed(message));
        }
        for (output, (name, tensor)) in wanted.iter().zip(&mut outputs) {
            output.port.name.clone_into(name);
            output.port.rows(tensor).map_err(engine::Error::Failed)?;
        }
        match outputs.iter().find(|(_, tensor)| tensor.shape.first() != Some(&rows)) {
            Some((name, tensor)) => Err(engine::Error::Failed(format!(
                "output {name} has shape {:?} for {rows} rows: expected a first dimension of {rows}",
                tensor.shape
            ))),
            None => Ok(outputs),
        }
    }

    /// The inputs' layouts for a batch of `rows`; a length that the spec leaves open is 1.
    fn layouts(&self, rows: usize) -> Vec<Layout> {
        let layout = |port: &super::spec::Port| {
            let mut shape: Vec<usize> = port.shape.iter().map(|length| length.unwrap_or(1)).collect();
            shape[0] = rows;
            Layout { dtype: port.dtype, shape }
        };
        self.spec.inputs.iter().map(layout).collect()
    }
}

/// Whether `inputs` can be passed in their order. A traced model's argument names mean little, so that only their number
/// counts, unless they are the same names in another order.
fn answers_to(arguments: &[String], inputs: &[String]) -> bool {
    let same_names = inputs.iter().all(|input| arguments.contains(input));
    arguments.len() == inputs.len() && (!same_names || arguments == inputs)
}

/// A tensor of zeros; a description that asks for more memory than there is must not end the process without a reason.
fn zeros(layout: Layout) -> Result<Tensor, String> {
    let mut bytes = Vec::new();
    let refused = |_| format!("{} bytes for inputs of shape {:?} are not to be had", layout.bytes(), layout.shape);
    bytes.try_reserve_exact(layout.bytes()).map_err(refused)?;
    bytes.resize(layout.bytes(), 0);
    Ok(Tensor { dtype: layout.dtype, bytes: bytes.into(), shape: layout.shape })
}
