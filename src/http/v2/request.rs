//! An inference request to tensors: JSON, and behind it the raw bytes of those tensors that came in the binary extension.

use axum::body::Bytes;
use axum::http::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeSeed as _;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::api;
use crate::api::asked::{self, refuse_shared_memory};
use crate::api::describe::Signature;
use crate::http::error::{Error, shown};
use crate::http::predict::parse;
use crate::model::Version;
use crate::model::spec::{Port, names};
use crate::tensor::json::{Nested, Room};
use crate::tensor::pool::Pool;
use crate::tensor::{DType, Tensor};

/// How many bytes of a body are JSON; the tensors' own bytes follow.
const HEADER_LENGTH: &str = "inference-header-content-length";

/// One tensor per input of the model.
pub(super) struct Inputs {
    pub(super) tensors: Vec<Tensor>,
    pub(super) rows: usize,
}

/// What the answer shall be.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) id: Option<String>,
    pub(super) parameters: asked::Request,
    /// In this order; `None` for all outputs.
    pub(super) outputs: Option<Vec<(String, asked::Output)>>,
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    #[serde(default)]
    outputs: Option<Vec<Output>>,
}

#[derive(Deserialize)]
struct Input<'a> {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    /// Left as text until its type is known, wherever that stands.
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
}

/// How many bytes of the body are JSON; `None` where all of them are.
pub(super) fn header_length(headers: &HeaderMap) -> Result<Option<usize>, Error> {
    let Some(value) = headers.get(HEADER_LENGTH) else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    text.trim()
        .parse()
        .map(Some)
        .map_err(|_| Error::bad_input(format!("{HEADER_LENGTH}: got {:?}, expected a number of bytes", shown(&text))))
}

/// Reads a request, whose first `header` bytes are JSON.
pub(super) fn read(
    version: &Version,
    body: &Bytes,
    header: Option<usize>,
    pool: &Pool,
) -> Result<(Inputs, Asked), Error> {
    let spec = &version.spec;
    let (mut tensors, asked) = match header {
        // Triton's raw request: no JSON at all, and an answer of raw bytes.
        Some(0) => {
            let [port] = spec.inputs.as_slice() else {
                let names = names(&spec.inputs);
                return Err(Error::bad_input(format!("this body carries one tensor, the model takes {names}")));
            };
            let parameters = asked::Request { binary: true, ..asked::Request::default() };
            (vec![parse::raw(port, body.clone())?], Asked { parameters, ..Asked::default() })
        }
        header => {
            let length = header.unwrap_or(body.len());
            let (json, _) = body.split_at_checked(length).ok_or_else(|| {
                Error::bad_input(format!(
                    "{HEADER_LENGTH}: got {length}, expected at most the body's {} bytes",
                    body.len()
                ))
            })?;
            let document: Document = serde_json::from_slice(json).map_err(|error| {
                Error::bad_input(error.to_string())
                    .hint("expected {\"inputs\": [{\"name\": …, \"datatype\": …, \"shape\": […], \"data\": […]}]}")
            })?;
            let binary = Binary { rest: body.slice(length..), is_announced: header.is_some() };
            let tensors = tensors(&spec.inputs, &document.inputs, binary, pool)?;
            (tensors, wishes(version, document)?)
        }
    };
    let rows = api::checked(spec, &mut tensors)?;
    Ok((Inputs { tensors, rows }, asked))
}

/// The bytes behind the JSON that no tensor has taken yet.
struct Binary {
    rest: Bytes,
    is_announced: bool,
}

impl Binary {
    fn take(&mut self, name: &str, size: i128) -> Result<Bytes, Error> {
        if !self.is_announced {
            let message = format!("{name}: binary_data_size = {size}, but the request has no header {HEADER_LENGTH}");
            return Err(Error::bad_input(message));
        }
        let size = usize::try_from(size).ok().filter(|size| *size <= self.rest.len());
        let size = size.ok_or_else(|| {
            let message = format!("{name}: binary_data_size is more than the {} bytes that are left", self.rest.len());
            Error::bad_input(message)
        })?;
        Ok(self.rest.split_to(size))
    }
}

/// The inputs in the order of `ports`.
fn tensors(ports: &[Port], inputs: &[Input], mut binary: Binary, pool: &Pool) -> Result<Vec<Tensor>, Error> {
    let mut found: Vec<Option<Tensor>> = vec![None; ports.len()];
    for input in inputs {
        let Some(index) = ports.iter().position(|port| port.name == input.name) else {
            let (name, names) = (shown(&input.name), names(ports));
            return Err(Error::bad_input(format!("unknown input {name:?}, expected {names}")));
        };
        let tensor = tensor(input, &mut binary, pool)?;
        if found[index].replace(tensor).is_some() {
            return Err(Error::bad_input(format!("input {:?} is given twice", input.name)));
        }
    }
    if let Some(missing) = ports.iter().zip(&found).find(|(_, tensor)| tensor.is_none()) {
        return Err(Error::bad_input(format!("input {:?} is missing, expected {}", missing.0.name, names(ports))));
    }
    if !binary.rest.is_empty() {
        let message = format!("{} bytes are left behind the last input's: expected none", binary.rest.len());
        return Err(Error::bad_input(message));
    }
    Ok(found.into_iter().flatten().collect())
}

fn tensor(input: &Input, binary: &mut Binary, pool: &Pool) -> Result<Tensor, Error> {
    let name = &input.name;
    let dtype = DType::from_name(&input.datatype).ok_or_else(|| {
        let expected = "BOOL, UINT8 to UINT64, INT8 to INT64, FP16, BF16, FP32, FP64 or BYTES";
        Error::bad_input(format!("{name}: datatype {:?}, expected {expected}", shown(&input.datatype)))
    })?;
    let (shape, elements) = lengths(input)?;
    let mut size = None;
    for (parameter, value) in input.parameters.iter().flatten() {
        refuse_shared_memory(parameter)?;
        if parameter == "binary_data_size" {
            let asked::Value::Whole(bytes) = value_of(value) else {
                return Err(Error::bad_input(format!(
                    "{name}: binary_data_size: got {value}, expected a number of bytes"
                )));
            };
            size = Some(bytes);
        }
    }
    match (input.data, size) {
        (Some(_), Some(_)) => Err(Error::bad_input(format!("{name}: both data and binary_data_size, expected one"))),
        (None, None) => Err(Error::bad_input(format!("{name}: data is missing"))),
        (None, Some(size)) => {
            let bytes = binary.take(name, size)?;
            // How long texts are, only they tell: `api::checked` asks them.
            if let Some(size) = dtype.size().filter(|size| elements.checked_mul(*size) != Some(bytes.len())) {
                let message = format!(
                    "{name}: binary_data_size = {}, expected {elements} × {size} bytes for shape {shape:?} of {dtype}",
                    bytes.len()
                );
                return Err(Error::bad_input(message));
            }
            Ok(Tensor { dtype, shape, bytes })
        }
        (Some(data), None) => {
            let tensor = from_json(name, dtype, data, pool)?;
            let is_flat = matches!(*tensor.shape, [length] if length == elements);
            if tensor.shape != shape && !is_flat {
                let got = &tensor.shape;
                let message = format!("{name}: data of shape {got:?}, expected {shape:?} or {elements} values");
                return Err(Error::bad_input(message));
            }
            Ok(Tensor { shape, ..tensor })
        }
    }
}

/// The shape, and how many elements it has.
fn lengths(input: &Input) -> Result<(Vec<usize>, usize), Error> {
    let wrong = |expected| Error::bad_input(format!("{}: shape {:?}, expected {expected}", input.name, input.shape));
    let shape: Option<Vec<usize>> = input.shape.iter().map(|length| usize::try_from(*length).ok()).collect();
    let shape = shape.ok_or_else(|| wrong("lengths of at least 0"))?;
    let elements = shape.iter().try_fold(1_usize, |elements, length| elements.checked_mul(*length));
    Ok((shape, elements.ok_or_else(|| wrong("fewer elements"))?))
}

fn from_json(name: &str, dtype: DType, data: &RawValue, pool: &Pool) -> Result<Tensor, Error> {
    let room = Room::new(pool, data.get().as_bytes());
    let read = room.take(Some(dtype)).and_then(|bytes| {
        let mut json = serde_json::Deserializer::from_str(data.get());
        Nested { field: name, dtype: Some(dtype), bytes }.deserialize(&mut json)
    });
    read.map_err(|error| {
        if let Some(full) = room.refused() {
            return Error::no_room(full, room.needed());
        }
        let text = error.to_string();
        // The place in the text is counted from where the data begins; the element is named anyway.
        Error::bad_input(text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text))
    })
}

/// What the answer shall be, if it can be.
fn wishes(version: &Version, document: Document) -> Result<Asked, Error> {
    let mut parameters = asked::Request::default();
    for (name, value) in document.parameters.iter().flatten() {
        parameters.take(name, value_of(value))?;
    }
    let mut outputs = Vec::new();
    let known = document.outputs.as_ref().map_or(Vec::new(), |_| Signature::of(version).outputs);
    for output in document.outputs.iter().flatten() {
        let name = &output.name;
        if !known.is_empty() && !known.iter().any(|known| known.name == *name) {
            let names = known.iter().map(|known| known.name.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Error::bad_input(format!("unknown output {:?}, expected {names}", shown(name))));
        }
        let mut wish = asked::Output::default();
        for (parameter, value) in output.parameters.iter().flatten() {
            wish.take(name, parameter, value_of(value))?;
        }
        outputs.push((name.clone(), wish));
    }
    // An empty list means all of them, as with other servers.
    let outputs = Some(outputs).filter(|outputs| !outputs.is_empty());
    Ok(Asked { id: document.id, parameters, outputs })
}

fn value_of(value: &Value) -> asked::Value<'_> {
    match value {
        Value::Bool(value) => asked::Value::Bool(*value),
        Value::String(text) => asked::Value::Text(text),
        Value::Number(number) => match (number.as_i128(), number.as_f64()) {
            (Some(whole), _) => asked::Value::Whole(whole),
            (None, Some(float)) => asked::Value::Float(float),
            (None, None) => asked::Value::Other,
        },
        Value::Null | Value::Array(_) | Value::Object(_) => asked::Value::Other,
    }
}
