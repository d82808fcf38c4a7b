//! Whether a model's file is of the form that its description means, and what a package adds to that description.

use crate::engine::{Device, Format};
use crate::model::package::{COMPILE, Package};
use crate::model::processor;
use crate::model::spec::{MemoryFormat, Spec};
use crate::tensor::DType;

/// What is wrong, and what to do about it.
type Wrong = (String, &'static str);

/// Whether the description is one of a file of this format.
pub(super) fn check(spec: &Spec, format: Format) -> Result<(), Wrong> {
    if let Some(wanted) = spec.format.filter(|wanted| *wanted != format) {
        const HINT: &str = "put the file of that format there, or change the line";
        return Err((format!("model.toml says format = {:?}, and it is {:?}", wanted.name(), format.name()), HINT));
    }
    // Its memory format changes no answer: what scripts prefer may stand where a package takes a script's place.
    if format == Format::Aoti && spec.precision.is_some() {
        const HINT: &str = "leave the line out, and compile the model with it";
        return Err(("precision is for TorchScript: a package keeps what it was compiled with".to_owned(), HINT));
    }
    Ok(())
}

/// The precision and whether channels come last, as the engine takes them.
pub(super) fn of(spec: &Spec) -> (Option<DType>, bool) {
    (spec.precision, spec.memory_format == MemoryFormat::ChannelsLast)
}

/// Why the precision that is wanted will not pay on `device`.
pub(super) fn slow(spec: &Spec, device: Device) -> Option<String> {
    let precision = spec.precision.filter(|_| device == Device::Cpu)?;
    processor::is_slow_in(precision, &processor::flags())
}

/// Fills in what the description leaves to the package, and says where they do not agree.
pub(super) fn settle(spec: &mut Spec, package: &Package, device: Device) -> Result<(), Wrong> {
    if let Some(wrong) = package.misplaced(device) {
        return Err(wrong);
    }
    let ports = package.ports().map_err(|reason| (reason, COMPILE))?;
    if spec.inputs.is_empty() {
        if ports.is_empty() {
            const HINT: &str = "describe its inputs in a model.toml, or by --input";
            return Err(("it does not show what its inputs are, and nothing describes them".to_owned(), HINT));
        }
        (spec.inputs, spec.is_learned) = (ports, true);
        spec.max_size = spec.max_size.min(package.most_rows().unwrap_or(usize::MAX));
        spec.warm_up.iter_mut().for_each(|rows| *rows = (*rows).min(spec.max_size));
    }
    package.differs(&spec.inputs).map_err(|reason| (reason, "describe it as it was compiled, or compile it anew"))?;
    let most = package.most_rows().unwrap_or(usize::MAX);
    if spec.max_size > most {
        let reason = format!("batching.max_size = {}, and it was compiled for at most {most} rows", spec.max_size);
        return Err((reason, "lower max_size, or compile it for more"));
    }
    Ok(())
}
