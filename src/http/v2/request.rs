//! An inference request to tensors: JSON, and behind it the raw bytes of those tensors that came in the binary extension.

use axum::body::Bytes;
use axum::http::HeaderMap;
use serde::Deserialize;
use serde::de::DeserializeSeed as _;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::api;
use crate::api::asked::{self, Asked, Inputs, refuse_shared_memory};
use crate::api::tensors::{Described, in_order};
use crate::http::error::{Error, shown};
use crate::http::predict::parse;
use crate::model::spec::{Port, Spec, names};
use crate::tensor::json::{self, Nested, Room};
use crate::tensor::pool::Pool;
use crate::tensor::{DType, Tensor};

/// How many bytes of a body are JSON; the tensors' own bytes follow.
const HEADER_LENGTH: &str = "inference-header-content-length";

/// How many of the bytes behind the JSON are a tensor's.
const BINARY_SIZE: &str = "binary_data_size";

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
pub(crate) fn read(spec: &Spec, body: &Bytes, header: Option<usize>, pool: &Pool) -> Result<(Inputs, Asked), Error> {
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
            (tensors, wishes(document)?)
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
            let message = format!("{name}: {BINARY_SIZE} = {size}, but the request has no header {HEADER_LENGTH}");
            return Err(Error::bad_input(message));
        }
        let size = usize::try_from(size).ok().filter(|size| *size <= self.rest.len());
        let size = size.ok_or_else(|| {
            let message = format!("{name}: {BINARY_SIZE} is more than the {} bytes that are left", self.rest.len());
            Error::bad_input(message)
        })?;
        Ok(self.rest.split_to(size))
    }
}

/// The inputs in the order of `ports`.
fn tensors(ports: &[Port], inputs: &[Input], mut binary: Binary, pool: &Pool) -> Result<Vec<Tensor>, Error> {
    let named = inputs.iter().map(|input| Ok((input.name.as_str(), tensor(input, &mut binary, pool)?)));
    let tensors = in_order(ports, named.collect::<Result<_, Error>>()?)?;
    match binary.rest.len() {
        0 => Ok(tensors),
        left => Err(Error::bad_input(format!("{left} bytes are left behind the last input's: expected none"))),
    }
}

fn tensor(input: &Input, binary: &mut Binary, pool: &Pool) -> Result<Tensor, Error> {
    let name = &input.name;
    let described = Described::new(name, &input.datatype, &input.shape)?;
    let mut size = None;
    for (parameter, value) in input.parameters.iter().flatten() {
        refuse_shared_memory(parameter)?;
        if parameter == BINARY_SIZE {
            let asked::Value::Whole(bytes) = value_of(value) else {
                return Err(Error::bad_input(format!(
                    "{name}: {BINARY_SIZE}: got {value}, expected a number of bytes"
                )));
            };
            size = Some(bytes);
        }
    }
    match (input.data, size) {
        (Some(_), Some(_)) => Err(Error::bad_input(format!("{name}: both data and {BINARY_SIZE}, expected one"))),
        (None, None) => Err(Error::bad_input(format!("{name}: data is missing"))),
        (None, Some(size)) => described.of_bytes(BINARY_SIZE, binary.take(name, size)?),
        (Some(data), None) => {
            let tensor = from_json(name, described.dtype, data, pool)?;
            let Described { shape, elements, .. } = described;
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

fn from_json(name: &str, dtype: DType, data: &RawValue, pool: &Pool) -> Result<Tensor, Error> {
    if let Some(tensor) = json::quick::value(data.get().as_bytes(), dtype, pool) {
        return Ok(tensor);
    }
    let room = Room::new(pool, data.get().as_bytes());
    let read = room.take(Some(dtype)).and_then(|bytes| {
        let mut json = serde_json::Deserializer::from_str(data.get());
        Nested { field: name, dtype: Some(dtype), bytes }.deserialize(&mut json)
    });
    read.map_err(|error| parse::part_failed(&error, &room))
}

/// What the answer shall be.
fn wishes(document: Document) -> Result<Asked, Error> {
    let mut asked = Asked { id: document.id.unwrap_or_default(), ..Asked::default() };
    for (name, value) in document.parameters.iter().flatten() {
        asked.parameters.take(name, value_of(value))?;
    }
    for output in document.outputs.into_iter().flatten() {
        let mut wish = asked::Output::default();
        for (parameter, value) in output.parameters.iter().flatten() {
            wish.take(&output.name, parameter, value_of(value))?;
        }
        asked.outputs.push((output.name, wish));
    }
    Ok(asked)
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
