//! A tensor as a request of the inference protocol describes it, in either form of the protocol.

use axum::body::Bytes;

use super::error::{Error, shown};
use crate::model::spec::{Port, names};
use crate::tensor::{DType, Tensor};

/// What is said of a tensor before its elements.
pub struct Described<'a> {
    pub name: &'a str,
    pub dtype: DType,
    pub shape: Vec<usize>,
    /// Of the whole shape.
    pub elements: usize,
}

impl<'a> Described<'a> {
    pub fn new(name: &'a str, datatype: &str, shape: &[i64]) -> Result<Self, Error> {
        let dtype = DType::from_name(datatype).ok_or_else(|| {
            let expected = "BOOL, UINT8 to UINT64, INT8 to INT64, FP16, BF16, FP32, FP64 or BYTES";
            Error::bad_input(format!("{name}: datatype {:?}, expected {expected}", shown(datatype)))
        })?;
        let wrong = |expected| Error::bad_input(format!("{name}: shape {shape:?}, expected {expected}"));
        let lengths: Option<Vec<usize>> = shape.iter().map(|length| usize::try_from(*length).ok()).collect();
        let lengths = lengths.ok_or_else(|| wrong("lengths of at least 0"))?;
        let elements = lengths.iter().try_fold(1_usize, |elements, length| elements.checked_mul(*length));
        let elements = elements.filter(|elements| elements.checked_mul(dtype.size().unwrap_or(1)).is_some());
        Ok(Self { name, dtype, elements: elements.ok_or_else(|| wrong("fewer elements"))?, shape: lengths })
    }

    /// The tensor of these bytes; `field` is where they came from. How long texts are, only they tell: [`super::checked`]
    /// asks them.
    pub fn of_bytes(self, field: &str, bytes: Bytes) -> Result<Tensor, Error> {
        let Self { name, dtype, shape, elements } = &self;
        if let Some(size) = dtype.size().filter(|size| elements * size != bytes.len()) {
            return Err(Error::bad_input(format!(
                "{name}: {field} of {} bytes, expected {elements} × {size} for shape {shape:?} of {dtype}",
                bytes.len(),
            )));
        }
        Ok(Tensor { dtype: self.dtype, shape: self.shape, bytes })
    }
}

/// One tensor for each of `ports`, in their order.
pub fn in_order(ports: &[Port], given: Vec<(&str, Tensor)>) -> Result<Vec<Tensor>, Error> {
    let mut found: Vec<Option<Tensor>> = vec![None; ports.len()];
    for (name, tensor) in given {
        let Some(index) = ports.iter().position(|port| port.name == name) else {
            let (name, names) = (shown(name), names(ports));
            return Err(Error::bad_input(format!("unknown input {name:?}, expected {names}")));
        };
        if found[index].replace(tensor).is_some() {
            return Err(Error::bad_input(format!("input {name:?} is given twice")));
        }
    }
    if let Some((port, _)) = ports.iter().zip(&found).find(|(_, tensor)| tensor.is_none()) {
        return Err(Error::bad_input(format!("input {:?} is missing, expected {}", port.name, names(ports))));
    }
    Ok(found.into_iter().flatten().collect())
}
