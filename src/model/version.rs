//! A loaded version of a model, and the proof that it computes what it promised.

mod form;
mod warm_up;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::archive::{self, Archive};
use super::digest::Digest;
use super::golden::{self, Golden};
use super::package::Package;
use super::repository::Found;
use super::row_wise::{self, Pair, RowWise};
use super::spec::{Port, Spec};
use crate::engine::{self, Device, Engine, Instance, Kind, Layout, Outputs, Source};
use crate::tensor::{DType, Tensor};

/// Runs of each warm-up size: libtorch profiles the first, optimises the second, and only then shows its real speed.
const RUNS: usize = 3;

/// Named outputs.
/// What was seen while a version proved itself.
#[derive(Clone, Debug, Default)]
pub struct Proof {
    /// How long each run of a warm-up size took.
    pub runs: BTreeMap<usize, Vec<Duration>>,
    /// The outputs of the last warm-up run, without their values.
    pub outputs: Vec<(String, Layout)>,
}

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
    /// `None` of a script.
    package: Option<Package>,
    golden: Option<Golden>,
    /// Empty until the version has proved itself, or has learned from its first request.
    row_wise: OnceLock<RowWise>,
    proof: Mutex<Proof>,
}

/// Why a model could not be loaded. The text names the model.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{model} cannot be loaded from {path}: {reason}; hint: {hint}")]
    Load { model: String, path: String, reason: String, hint: &'static str },
    #[error(
        "{model} takes {arguments}, but the inputs that are described are {inputs}: expected the same ones, in their order"
    )]
    Arguments { model: String, arguments: String, inputs: String },
    #[error("{model}: the input {input} is described as {described}, but the model takes {taken}: expected {expected}")]
    Kind { model: String, input: String, described: String, taken: &'static str, expected: &'static str },
    #[error("{model} takes no arguments: expected a forward that takes tensors")]
    NoArguments { model: String },
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
        let refused = |reason, hint| {
            let path = found.file.display().to_string();
            Error::Load { model: id.clone(), path, reason, hint }
        };
        let mut source = Source::of(&found.file, device);
        source.instances = found.spec.instances;
        let mut package = None;
        match Archive::open(&found.file) {
            // libtorch would only say that it cannot read such a file.
            Err(archive::Error::Foreign { what, hint }) => return Err(refused(what, hint)),
            // What cannot be opened at all, it says well enough.
            Err(archive::Error::Unreadable(_)) => {}
            Ok(archive) => {
                source.format = archive.format();
                package = archive.into_package();
            }
        }
        form::check(&found.spec, source.format).map_err(|(what, hint)| refused(what, hint))?;
        (source.precision, source.channels_last) = form::of(&found.spec);
        if let Some(reason) = form::slow(&found.spec, device) {
            tracing::warn!(model = id, reason, "precision is likely to cost more than it saves");
        }
        let mut spec = found.spec;
        if let Some(package) = &package {
            form::settle(&mut spec, package, device).map_err(|(what, hint)| refused(what, hint))?;
        }
        let model = engine.load(&source, progress);
        let hint = if package.is_some() { archive::OPENABLE } else { archive::WHOLE };
        let model = model.map_err(|error| refused(error.gist(), hint))?;
        if spec.inputs.is_empty() {
            let names = model.arguments()[..model.required()].iter().enumerate();
            spec.inputs = names.map(|(index, name)| port_of(name, model.kind(index))).collect();
            spec.is_learned = true;
        }
        let inputs: Vec<&str> = spec.inputs.iter().map(|port| port.name.as_str()).collect();
        if inputs.is_empty() {
            return Err(Error::NoArguments { model: id });
        }
        // A package says elsewhere what it takes.
        if package.is_none() && !answers_to(model.arguments(), model.required(), &inputs) {
            let arguments = shown(model.arguments(), model.required());
            return Err(Error::Arguments { model: id, arguments, inputs: inputs.join(", ") });
        }
        for (index, port) in spec.inputs.iter().enumerate() {
            misfit(&id, port, model.kind(index)).map_or(Ok(()), Err)?;
        }
        Ok(Arc::new(Self {
            name: found.name,
            version: found.version,
            spec,
            labels: found.labels,
            device,
            digest: OnceLock::new(),
            model,
            package,
            golden: found.golden,
            row_wise: OnceLock::new(),
            proof: Mutex::default(),
        }))
    }

    /// Whether anything is known of its inputs but their names.
    pub fn is_described(&self) -> bool {
        self.spec.inputs.iter().all(|port| port.dtype.is_some())
    }

    /// Whether requests may share a batch; no, until that is known.
    pub fn row_wise(&self) -> bool {
        self.row_wise.get().is_some_and(RowWise::holds)
    }

    /// What is known of that; `None` before the first request to a version that nothing describes.
    pub fn independence(&self) -> Option<&RowWise> {
        self.row_wise.get()
    }

    pub fn proof(&self) -> Proof {
        self.proof.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `digits@1`.
    pub fn id(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// How many runs [`Self::prove`] takes.
    pub fn proof_runs(&self) -> usize {
        if !self.is_described() {
            return 0;
        }
        let golden = self.golden.as_ref().map_or(0, |golden| match self.spec.row_wise {
            Some(false) => 1,
            _ => golden.rows.div_ceil(self.spec.max_size),
        });
        golden + self.spec.warm_up.len() * RUNS
    }

    /// Computes the golden rows and the warm-up batches on `instance`, and sees whether rows are independent; `done` hears
    /// of each run. A version that nothing describes has to wait for its first request.
    pub fn prove(&self, instance: &mut dyn Instance, done: &mut dyn FnMut()) -> Result<(), Error> {
        if !self.is_described() {
            return Ok(());
        }
        if let Some(golden) = &self.golden {
            self.compare(golden, instance, done)?;
        }
        let failed = |reason| Error::WarmUp { model: self.id(), reason };
        for rows in &self.spec.warm_up {
            let choice = warm_up::inputs(&self.spec, self.golden.as_ref(), *rows).map_err(failed)?;
            let inputs = self.bearable(instance, choice, *rows).map_err(|error| failed(error.gist()))?;
            done();
            for _ in 1..RUNS {
                self.warm_up(instance, &inputs, *rows).map_err(|error| failed(error.gist()))?;
                done();
            }
        }
        if self.row_wise.get().is_none() {
            self.settle(self.find_out(instance).map_err(|error| failed(error.gist()))?);
        }
        Ok(())
    }

    /// Whether rows are independent, by the `model.toml` or by rows that the model should be able to compute.
    fn find_out(&self, instance: &mut dyn Instance) -> Result<RowWise, engine::Error> {
        if let Some(holds) = self.spec.row_wise {
            return Ok(RowWise::Declared(holds));
        }
        let known = self.golden.as_ref().map(|golden| row_wise::pair_of(&golden.inputs));
        match self.probe(instance, row_wise::pairs(known, &self.spec.inputs)) {
            Err(error) if !matches!(error, engine::Error::DeviceLost(_)) => {
                let reason = format!("it cannot compute the rows that were tried: {}", error.gist());
                Ok(RowWise::Unknown { reason, assumed: true })
            }
            found => found,
        }
    }

    /// Sees whether rows are independent by `inputs`, a request's, where nothing has told so far. They must have rows.
    pub fn learn(&self, instance: &mut dyn Instance, inputs: &[Tensor]) {
        if self.row_wise.get().is_some() {
            return;
        }
        // Where it cannot compute this request's rows, it may do so for the next one's.
        if let Ok(found) = self.probe(instance, row_wise::pairs_of(inputs)) {
            self.settle(found);
        }
    }

    fn probe(
        &self,
        instance: &mut dyn Instance,
        pairs: impl IntoIterator<Item = Pair>,
    ) -> Result<RowWise, engine::Error> {
        row_wise::probe(pairs, self.is_described(), &mut |inputs| self.whole(instance, inputs))
    }

    /// Another instance may have found it out meanwhile.
    fn settle(&self, found: RowWise) {
        let (model, reason) = (self.id(), found.reason().to_owned());
        match &found {
            RowWise::Proved => tracing::info!(model, "rows are independent: requests share batches"),
            RowWise::Declared(row_wise) => tracing::info!(model, row_wise, "not probed, as its model.toml wants it"),
            RowWise::Disproved(_) => tracing::warn!(model, reason, "batching is off: each request is computed alone"),
            RowWise::Unknown { assumed: true, .. } => {
                tracing::warn!(model, reason, "whether rows are independent cannot be told: taken for independent");
            }
            RowWise::Unknown { .. } => {
                tracing::warn!(model, reason, "batching is off: whether rows are independent cannot be told");
            }
        }
        let _ = self.row_wise.set(found);
    }

    /// The first of `choice` that the model can compute, by a run; the error is that of the likeliest.
    fn bearable(
        &self,
        instance: &mut dyn Instance,
        choice: Vec<Vec<Tensor>>,
        rows: usize,
    ) -> Result<Vec<Tensor>, engine::Error> {
        let mut raised = None;
        for inputs in choice {
            match self.warm_up(instance, &inputs, rows) {
                Ok(()) => return Ok(inputs),
                Err(error @ (engine::Error::DeviceLost(_) | engine::Error::OutOfMemory(_))) => return Err(error),
                Err(error) => drop(raised.get_or_insert(error)),
            }
        }
        Err(raised.unwrap_or_else(|| engine::Error::Failed("there are no inputs to try".to_owned())))
    }

    /// One run over `inputs`, timed.
    fn warm_up(&self, instance: &mut dyn Instance, inputs: &[Tensor], rows: usize) -> Result<(), engine::Error> {
        let started = Instant::now();
        let outputs = self.whole(instance, inputs)?;
        let mut proof = self.proof.lock().unwrap_or_else(PoisonError::into_inner);
        proof.runs.entry(rows).or_default().push(started.elapsed());
        proof.outputs = outputs.into_iter().map(|(name, tensor)| (name.to_string(), Layout::of(&tensor))).collect();
        Ok(())
    }

    fn compare(&self, golden: &Golden, instance: &mut dyn Instance, done: &mut dyn FnMut()) -> Result<(), Error> {
        let tolerance = self.spec.golden.as_ref().map_or(0.0, |golden| golden.tolerance);
        let differs = |reason| Error::Differs { model: self.id(), reason };
        if self.spec.row_wise == Some(false) {
            let got = self.whole(instance, &golden.inputs).map_err(|error| differs(error.gist()))?;
            for ((name, got), expected) in got.iter().zip(&golden.outputs) {
                golden::compare(name, got, expected, tolerance).map_err(differs)?;
            }
            done();
            return Ok(());
        }
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
    ) -> Result<Outputs, engine::Error> {
        let column = |index: usize| parts.iter().map(move |(inputs, range)| (&inputs[index], range.clone()));
        let layouts: Vec<Layout> =
            (0..self.spec.inputs.len()).filter_map(|index| Layout::of_parts(column(index))).collect();
        self.admit(&layouts)?;
        let mut slot = instance.slot(&layouts)?;
        for index in 0..layouts.len() {
            let mut rest = slot.input(index);
            for (tensor, range) in column(index) {
                let bytes = tensor.row_bytes(range);
                let (here, after) = rest.split_at_mut(bytes.len());
                here.copy_from_slice(bytes);
                rest = after;
            }
        }
        let outputs = self.named(slot.run()?)?;
        match outputs.iter().find(|(_, tensor)| tensor.shape.first() != Some(&rows)) {
            Some((name, tensor)) => Err(engine::Error::Unfit(format!(
                "output {name} has shape {:?} for {rows} rows: expected a first dimension of {rows}",
                tensor.shape
            ))),
            None => Ok(outputs),
        }
    }

    /// Computes one request as it came. Its outputs need no batch dimension.
    pub fn whole(&self, instance: &mut dyn Instance, inputs: &[Tensor]) -> Result<Outputs, engine::Error> {
        let layouts: Vec<Layout> = inputs.iter().map(Layout::of).collect();
        self.admit(&layouts)?;
        let mut slot = instance.slot(&layouts)?;
        for (index, tensor) in inputs.iter().enumerate() {
            slot.input(index).copy_from_slice(&tensor.bytes);
        }
        self.named(slot.run()?)
    }

    /// Keeps from a package what its machine code would not look at.
    fn admit(&self, batch: &[Layout]) -> Result<(), engine::Error> {
        self.package.as_ref().map_or(Ok(()), |package| package.admit(batch)).map_err(engine::Error::BadInput)
    }

    /// Gives the outputs the names of the spec, and refuses those that it does not promise.
    fn named(&self, mut outputs: Outputs) -> Result<Outputs, engine::Error> {
        let wanted = &self.spec.outputs;
        if !wanted.is_empty() && wanted.len() != outputs.len() {
            let message = format!("the model returns {} outputs, its model.toml names {}", outputs.len(), wanted.len());
            return Err(engine::Error::Unfit(message));
        }
        let called = self.package.as_ref().map_or(&[][..], |package| &package.output_names);
        if wanted.is_empty() && called.len() == outputs.len() {
            outputs.iter_mut().zip(called).for_each(|((name, _), called)| *name = called.as_str().into());
        }
        for (output, (name, tensor)) in wanted.iter().zip(&mut outputs) {
            *name = output.port.name.as_str().into();
            // TorchScript's list of texts, described as one text a row.
            if tensor.dtype == DType::Bytes
                && matches!((&tensor.shape[..], &output.port.shape[..]), ([_], [_, Some(1)]))
            {
                tensor.shape.push(1);
            }
            let fits = match self.spec.row_wise {
                Some(false) => output.port.fits(tensor),
                _ => output.port.rows(tensor).map(drop),
            };
            fits.map_err(|reason| engine::Error::Unfit(format!("output {reason}")))?;
        }
        Ok(outputs)
    }
}

/// What is known of an argument that nothing describes.
fn port_of(name: &str, kind: Kind) -> Port {
    let (dtype, shape) = match kind {
        Kind::Texts => (Some(DType::Bytes), vec![None]),
        Kind::TextLists => (Some(DType::Bytes), vec![None, None]),
        Kind::Tensor | Kind::Other => (None, Vec::new()),
    };
    Port { name: name.to_owned(), dtype, shape }
}

/// Why a port cannot be passed as an argument of that kind.
fn misfit(model: &str, port: &Port, kind: Kind) -> Option<Error> {
    let is_text = port.dtype? == DType::Bytes;
    let (taken, expected) = match (kind, &port.shape[..]) {
        (Kind::Tensor, _) if is_text => ("a tensor", "a type of numbers"),
        (Kind::Other, _) if is_text => ("neither texts nor a tensor", "List[str] in its forward"),
        (Kind::Texts, [_] | [_, Some(1)]) | (Kind::TextLists, [_, _]) if is_text => return None,
        (Kind::Texts, _) => ("a list of texts", "BYTES of shape [-1] or [-1, 1]"),
        (Kind::TextLists, _) => ("a list of lists of texts", "BYTES of shape [-1, n]"),
        (Kind::Tensor | Kind::Other, _) => return None,
    };
    let described = port.dtype.map_or_else(String::new, |dtype| format!("{dtype}{}", port.shape_text()));
    Some(Error::Kind { model: model.to_owned(), input: port.name.clone(), described, taken, expected })
}

/// Whether `inputs` can be passed in their order, the `required` arguments and maybe more. A traced model's argument names
/// mean little, so that only their number counts, unless they are the same names in another order.
fn answers_to(arguments: &[String], required: usize, inputs: &[&str]) -> bool {
    let same_names = inputs.iter().all(|input| arguments.iter().any(|argument| argument == input));
    (required..=arguments.len()).contains(&inputs.len())
        && (!same_names || arguments.iter().zip(inputs).all(|(argument, input)| argument == input))
}

/// `x, scale (optional)`.
fn shown(arguments: &[String], required: usize) -> String {
    let optional = |(index, name): (usize, &String)| {
        if index < required { name.clone() } else { format!("{name} (optional)") }
    };
    arguments.iter().enumerate().map(optional).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_the_arguments_in_their_order_and_optional_ones_may_be_left_out() {
        let arguments = ["a", "b", "c"].map(str::to_owned);
        for (required, inputs, expected) in [
            (3, &["a", "b", "c"][..], true),
            (3, &["a", "b"], false),
            (2, &["a", "b"], true),
            (1, &["a", "c"], false),
            (2, &["b", "a"], false),
            (2, &["x", "y"], true),
            (1, &["x", "y", "z", "w"], false),
        ] {
            assert_eq!(answers_to(&arguments, required, inputs), expected, "{required} {inputs:?}");
        }
        assert_eq!(shown(&arguments, 2), "a, b, c (optional)");
    }
}
