//! Bodies to tensors: JSON, `.npy` or raw bytes.

use std::fmt;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{HeaderMap, header};
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, Visitor};

use crate::api;
use crate::http::error::{Error, Kind, shown};
use crate::model::Version;
use crate::model::named::Named;
use crate::model::spec::{Port, Spec, names};
use crate::tensor::json::{self, Nested, Room};
use crate::tensor::pool::Pool;
use crate::tensor::{DType, Tensor, npy};

/// What the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Npy,
    Raw,
}

impl Format {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Self::Json) };
        let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        // `curl -d` says the second, whatever it sends.
        let known = [
            ("application/json", Self::Json),
            ("application/x-www-form-urlencoded", Self::Json),
            ("application/x-npy", Self::Npy),
            ("application/octet-stream", Self::Raw),
        ];
        known.iter().find(|(name, _)| essence.eq_ignore_ascii_case(name)).map(|(_, format)| *format).ok_or_else(|| {
            let got = shown(&String::from_utf8_lossy(value.as_bytes()));
            let message = format!(
                "Content-Type is {got:?}, expected application/json, application/x-npy or application/octet-stream"
            );
            Error::new(Kind::UnsupportedMediaType, message)
        })
    }
}

/// The body's tensors, one per input of the model, and their number of rows.
pub(super) async fn tensors(
    version: &Arc<Version>,
    format: Format,
    body: Bytes,
    pool: &Pool,
) -> Result<(Vec<Tensor>, usize), Error> {
    let (version, pool) = (version.clone(), pool.clone());
    api::heavy(body.len(), move || parse_now(&version.spec, format, body, &pool)).await?
}

pub(crate) fn parse_now(spec: &Spec, format: Format, body: Bytes, pool: &Pool) -> Result<(Vec<Tensor>, usize), Error> {
    let only = || match spec.inputs.as_slice() {
        [port] => Ok(port),
        ports => {
            let message = format!("this body carries one tensor, the model takes {}", names(ports));
            Err(Error::bad_input(message).hint("send JSON: {\"inputs\": {\"name\": […], …}}"))
        }
    };
    let mut inputs = match format {
        Format::Json => parse_json(spec, &body, pool)?,
        Format::Npy => {
            only()?;
            vec![npy::read(&body).map_err(|error| Error::bad_input(error.to_string()))?]
        }
        Format::Raw => vec![raw(only()?, body)?],
    };
    let rows = api::checked(spec, &mut inputs)?;
    Ok((inputs, rows))
}

/// Row-major little-endian elements of whole rows.
pub(in crate::http) fn raw(port: &Port, body: Bytes) -> Result<Tensor, Error> {
    if port.dtype == Some(DType::Bytes) {
        let message = format!("{}: raw bytes do not tell where a text ends, and the model takes texts", port.name);
        return Err(Error::bad_input(message).hint("send JSON"));
    }
    let element = port.dtype.and_then(|dtype| Some((dtype, dtype.size()?)));
    let (Some(row), Some((dtype, size))) = (port.row_elements(), element) else {
        let shape = port.shape_text();
        let message =
            format!("{}: raw bytes carry no shape, and the model's, {shape}, leaves a row's size open", port.name);
        return Err(Error::bad_input(message).hint("send JSON or .npy, which carry a shape"));
    };
    let bytes = row * size;
    if body.is_empty() || !body.len().is_multiple_of(bytes) {
        return Err(Error::bad_input(format!(
            "{}: {} bytes, expected a multiple of {bytes}, a row of {} as {}",
            port.name,
            body.len(),
            port.shape_text(),
            dtype
        )));
    }
    let mut shape: Vec<usize> = port.shape.iter().map(|length| length.unwrap_or(1)).collect();
    shape[0] = body.len() / bytes;
    Ok(Tensor { dtype, shape, bytes: body })
}

fn parse_json(spec: &Spec, body: &[u8], pool: &Pool) -> Result<Vec<Tensor>, Error> {
    let mut json = serde_json::Deserializer::from_slice(body);
    if let Some(tensor) = quickly(spec, body, pool) {
        return Ok(vec![tensor]);
    }
    let room = Room::new(pool, body);
    let whole = Whole { ports: &spec.inputs, room: &room };
    let tensors = whole.deserialize(&mut json).and_then(|tensors| json.end().map(|()| tensors));
    tensors.map_err(|error| match room.refused() {
        Some(full) => Error::no_room(full, room.needed()),
        None => Error::bad_input(error.to_string()).hint("expected {\"inputs\": […]}"),
    })
}

/// What most requests are, read in a fraction of the time: numbers for the one input of a model. `None` of anything else.
fn quickly(spec: &Spec, body: &[u8], pool: &Pool) -> Option<Tensor> {
    let [Port { dtype: Some(dtype), .. }] = spec.inputs[..] else { return None };
    json::quick::object(body, "inputs", dtype, pool)
}

/// A part of a body that could not be read: for want of memory, or for what is in it.
pub(in crate::http) fn part_failed(error: &serde_json::Error, room: &Room) -> Error {
    match room.refused() {
        Some(full) => Error::no_room(full, room.needed()),
        None => Error::bad_input(json::gist(error)),
    }
}

/// `{"inputs": …}`, and nothing else.
struct Whole<'a> {
    ports: &'a [Port],
    room: &'a Room<'a>,
}

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = Vec<Tensor>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = Vec<Tensor>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the field inputs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        use serde::de::Error as _;
        let mut inputs = None;
        while let Some(key) = map.next_key::<String>()? {
            if key != "inputs" {
                return Err(A::Error::custom(format_args!("unknown field {:?}, expected \"inputs\"", shown(&key))));
            }
            if inputs.is_some() {
                return Err(A::Error::custom("the field inputs is given twice"));
            }
            inputs = Some(map.next_value_seed(Inputs { field: "inputs", ports: self.ports, room: self.room })?);
        }
        inputs.ok_or_else(|| A::Error::custom("the field inputs is missing"))
    }
}

/// One nested array where the model has one input; an object of them by name in any case.
pub(in crate::http) struct Inputs<'a> {
    /// Where they stand, for errors.
    pub(in crate::http) field: &'static str,
    pub(in crate::http) ports: &'a [Port],
    pub(in crate::http) room: &'a Room<'a>,
}

impl Inputs<'_> {
    /// The one tensor of a model with one input; `what` it is, for others.
    fn only<'de, D: Deserializer<'de>>(self, what: &str, deserializer: D) -> Result<Vec<Tensor>, D::Error> {
        let [port] = self.ports else {
            let names = names(self.ports);
            let field = self.field;
            return Err(serde::de::Error::custom(format_args!("{field}: {what}, expected an object with {names}")));
        };
        let seed = Nested { field: self.field, dtype: port.dtype, bytes: self.room.take(port.dtype)? };
        Ok(vec![seed.deserialize(deserializer)?])
    }
}

impl<'de> DeserializeSeed<'de> for Inputs<'_> {
    type Value = Vec<Tensor>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Inputs<'_> {
    type Value = Vec<Tensor>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: nested arrays, or an object with {}", self.field, names(self.ports))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, sequence: A) -> Result<Self::Value, A::Error> {
        self.only("an array", serde::de::value::SeqAccessDeserializer::new(sequence))
    }

    // One row may come without its batch dimension, and that of a shape [-1] is a number or a text.

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Self::Value, E> {
        self.only("a number", value.into_deserializer())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Self::Value, E> {
        self.only("a number", value.into_deserializer())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Self::Value, E> {
        self.only("a number", value.into_deserializer())
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Self::Value, E> {
        self.only("a boolean", value.into_deserializer())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Self::Value, E> {
        self.only("a text", value.into_deserializer())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let ports: Vec<&Port> = self.ports.iter().collect();
        Named { ports: &ports, room: self.room }.visit_map(map)
    }
}
