//! What a package that `AOTInductor` compiled says of itself, before any of its machine code is opened: where it can run,
//! what it may be fed, and what its outputs are called.
//!
//! The code itself looks at nothing that it is given: a shape that it was not compiled for is read beyond its end. So
//! `Package::admit` looks at every batch.

mod call;
mod wrapper;

use std::collections::{HashMap, HashSet};

use super::processor;
use super::spec::Port;
use crate::engine::{Device, Layout};
use crate::tensor::DType;
use wrapper::{Input, Length};

/// How to get a package that can be served.
pub const COMPILE: &str = "compile the model with models/export.py, or as it does, with a dynamic batch dimension";
const ELSEWHERE: &str =
    "compile the model on a machine like this one, or serve its TorchScript form, which runs anywhere";

/// What one says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Package {
    /// What it was compiled for, by the compiler's names.
    made_for: HashMap<String, String>,
    /// Empty where its code does not show what it may be fed.
    inputs: Vec<Input>,
    /// Their names; empty where it says nothing of them.
    input_names: Vec<String>,
    /// The same of its outputs.
    pub output_names: Vec<String>,
}

impl Package {
    /// From the source of its code and the metadata beside it, as far as they are there.
    pub fn read(wrapper: Option<&str>, metadata: Option<&str>) -> Self {
        let made_for = metadata.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let wrapper = wrapper.unwrap_or_default();
        let inputs = wrapper::inputs(wrapper).unwrap_or_default();
        let [input_names, output_names] = call::names(wrapper).unwrap_or_default();
        let input_names = if input_names.len() == inputs.len() { input_names } else { Vec::new() };
        Self { made_for, inputs, input_names, output_names }
    }

    /// Why its machine code cannot run here on `device`, and what to do about it.
    pub fn misplaced(&self, device: Device) -> Option<(String, &'static str)> {
        self.misplaced_on(device, std::env::consts::ARCH, &processor::flags())
    }

    fn misplaced_on(&self, device: Device, arch: &str, flags: &HashSet<String>) -> Option<(String, &'static str)> {
        let made_for = |key: &str| self.made_for.get(key).map_or("", String::as_str);
        let kind = if device == Device::Cpu { "cpu" } else { "cuda" };
        match made_for("AOTI_DEVICE_KEY") {
            "" => {}
            other if other == kind => {}
            other => {
                const HINT: &str = "compile it for this device, or name the other one: --device, or [instances] device";
                return Some((format!("it was compiled for {other}, and is to compute on {device}"), HINT));
            }
        }
        let machine = made_for("AOTI_MACHINE");
        if !machine.is_empty() && machine != arch {
            return Some((format!("it was compiled for {machine} processors, and this is {arch}"), ELSEWHERE));
        }
        let missing = processor::missing(made_for("AOTI_CPU_ISA"), flags);
        (!missing.is_empty() && !flags.is_empty()).then(|| {
            let missing = missing.join(", ");
            (format!("it was compiled for a processor that has {missing}, and this one has not"), ELSEWHERE)
        })
    }

    /// Its inputs as ports; empty where it does not show them. The error says why it cannot be served.
    pub fn ports(&self) -> Result<Vec<Port>, String> {
        let port = |(index, input): (usize, &Input)| {
            let name = self.input_names.get(index).cloned().unwrap_or_else(|| format!("input_{index}"));
            input.checked(&name)?;
            let shape = input.shape.iter().map(|length| length.exactly()).collect();
            Ok(Port { name, dtype: input.dtype, shape })
        };
        self.inputs.iter().enumerate().map(port).collect()
    }

    /// The most rows that it takes at once, where there is a limit.
    pub fn most_rows(&self) -> Option<usize> {
        self.inputs.iter().filter_map(|input| input.shape.first()?.most()).min()
    }

    /// What of the described `ports` it was not compiled for, in words.
    pub fn differs(&self, ports: &[Port]) -> Result<(), String> {
        if self.inputs.is_empty() {
            return Ok(());
        }
        let taken = self.ports()?;
        if taken.len() != ports.len() {
            return Err(format!("it takes {} inputs, and {} are described", taken.len(), ports.len()));
        }
        for (described, taken) in ports.iter().zip(&taken).filter(|(described, _)| described.dtype.is_some()) {
            let lengths = described.shape.iter().zip(&taken.shape);
            // A length that is described as any would let through what the code must not see.
            let fits = described.shape.len() == taken.shape.len()
                && lengths.skip(1).all(|(described, taken)| taken.is_none() || described == taken);
            if !fits || described.dtype != taken.dtype {
                let text = |port: &Port| format!("{}{}", port.dtype.map_or("", DType::name), port.shape_text());
                let (described, taken, name) = (text(described), text(taken), &described.name);
                return Err(format!("its input {name} is {taken}, and is described as {described}"));
            }
        }
        Ok(())
    }

    /// Whether its code may see a batch of these layouts. What it does not show of its inputs is the description's to say.
    pub fn admit(&self, batch: &[Layout]) -> Result<(), String> {
        if self.inputs.is_empty() {
            return Ok(());
        }
        if batch.len() != self.inputs.len() {
            return Err(format!("{} inputs, expected {}", batch.len(), self.inputs.len()));
        }
        for (index, (layout, input)) in batch.iter().zip(&self.inputs).enumerate() {
            let lengths = || input.shape.iter().zip(&layout.shape);
            let fits = Some(layout.dtype) == input.dtype
                && layout.shape.len() == input.shape.len()
                && lengths().all(|(length, got)| length.takes(*got));
            if !fits {
                let (dtype, shape) = (layout.dtype, &layout.shape);
                return Err(format!("input {index} is {dtype}{shape:?}, which the package was not compiled for"));
            }
        }
        self.tied(batch)
    }

    /// Lengths that the code takes from another input's must be the same as there.
    fn tied(&self, batch: &[Layout]) -> Result<(), String> {
        let all = || {
            let inputs = self.inputs.iter().zip(batch).enumerate();
            inputs.flat_map(|(index, (input, layout))| {
                input
                    .shape
                    .iter()
                    .zip(&layout.shape)
                    .enumerate()
                    .map(move |(place, (length, got))| (index, place, length, *got))
            })
        };
        // The batch's own length, and those of other dimensions: the code does not show which of them it means.
        let read = |is_batch: bool| {
            let read = all().filter(move |(_, place, length, _)| length.is_read() && (*place == 0) == is_batch);
            read.map(|(_, _, _, got)| got).collect::<Vec<_>>()
        };
        let (rows, others) = (read(true), read(false));
        for (index, place, _, got) in all().filter(|(_, _, length, _)| length.is_tied()) {
            let known = if place == 0 || others.is_empty() { &rows } else { &others };
            if !known.is_empty() && !known.contains(&got) {
                return Err(format!(
                    "input {index} has the length {got} in dimension {place}, expected that of another input, {known:?}"
                ));
            }
        }
        Ok(())
    }
}

impl Input {
    /// Whether a batch of rows can be it.
    fn checked(&self, name: &str) -> Result<(), String> {
        match (self.dtype, self.shape.first()) {
            (None, _) => Err(format!("its input {name} is of a type that cannot be served")),
            (_, None) => Err(format!("its input {name} is a single value, expected rows")),
            (_, Some(Length::Exactly(rows))) => Err(format!("it was compiled for batches of exactly {rows} rows")),
            (_, Some(rows)) if rows.least() > 1 => {
                Err(format!("it was compiled for batches of at least {} rows", rows.least()))
            }
            _ if !self.is_dense => Err(format!("its input {name} was compiled for memory that is not row-major")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
