//! Outputs to the protocol's answer: JSON, and behind it the raw bytes of those tensors that were asked for as such.

use axum::http::{HeaderName, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::Serialize;

use super::request::Asked;
use crate::api::asked;
use crate::api::classify;
use crate::batch::Outputs;
use crate::http::error::{Error, shown};
use crate::model::Version;
use crate::tensor::{DType, Tensor, json, text};

const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// What an output is answered with.
enum Content<'a> {
    Whole(&'a Tensor),
    /// In place of its numbers: texts, so many a row.
    Classes {
        texts: Vec<String>,
        a_row: usize,
    },
}

/// The answer with the outputs that were asked for.
pub(super) fn write(version: &Version, outputs: &Outputs, asked: &Asked) -> Result<Response, Error> {
    let all = || outputs.iter().map(|(name, _)| (name.to_string(), asked::Output::default())).collect();
    let wanted = asked.outputs.clone().unwrap_or_else(all);
    let mut body = Vec::with_capacity(256 + outputs.iter().map(|(_, tensor)| tensor.bytes.len() * 3).sum::<usize>());
    body.push(b'{');
    if let Some(id) = &asked.id {
        field(&mut body, "id", id);
        body.push(b',');
    }
    field(&mut body, "model_name", &version.name);
    body.push(b',');
    field(&mut body, "model_version", &version.version);
    body.extend_from_slice(b",\"outputs\":[");
    let mut raw: Vec<Bytes> = Vec::new();
    for (number, (name, wish)) in wanted.iter().enumerate() {
        if number > 0 {
            body.push(b',');
        }
        let index = outputs.iter().position(|(known, _)| **known == **name);
        let index = index.ok_or_else(|| Error::bad_input(format!("unknown output {:?}", shown(name))))?;
        let content = Content::of(version, index, &outputs[index].1, *wish)?;
        let is_binary = wish.binary.unwrap_or(asked.parameters.binary);
        body.push(b'{');
        field(&mut body, "name", name);
        raw.extend(content.write(&mut body, is_binary));
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    if raw.is_empty() {
        body.push(b'\n');
        return Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response());
    }
    let length = body.len();
    body.reserve(raw.iter().map(Bytes::len).sum());
    for bytes in raw {
        body.extend_from_slice(&bytes);
    }
    let headers = [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (HEADER_LENGTH, length.to_string())];
    Ok((headers, body).into_response())
}

impl<'a> Content<'a> {
    /// The output at `index`, in the form that is wished for.
    fn of(version: &Version, index: usize, tensor: &'a Tensor, wish: asked::Output) -> Result<Self, Error> {
        let Some(classes) = wish.classes else { return Ok(Self::Whole(tensor)) };
        if tensor.dtype == DType::Bytes {
            let message =
                format!("classification = {classes}: expected none for an output of BYTES, which has no scores");
            return Err(Error::bad_input(message));
        }
        let labels = version.labels.get(index).and_then(Option::as_deref);
        let (texts, a_row) = classify::best(tensor, labels, classes);
        Ok(Self::Classes { texts, a_row })
    }

    /// Appends all fields but the name. Returns the bytes that belong behind the JSON, if they are to be there.
    fn write(&self, body: &mut Vec<u8>, is_binary: bool) -> Option<Bytes> {
        let (datatype, shape) = match self {
            Self::Whole(tensor) => (tensor.dtype.name(), tensor.shape.clone()),
            Self::Classes { texts, a_row } => ("BYTES", vec![texts.len() / (*a_row).max(1), *a_row]),
        };
        body.push(b',');
        field(body, "datatype", datatype);
        body.push(b',');
        field(body, "shape", &shape);
        body.push(b',');
        if is_binary {
            let bytes = self.bytes();
            body.extend_from_slice(b"\"parameters\":{");
            field(body, "binary_data_size", &bytes.len());
            body.push(b'}');
            return Some(bytes);
        }
        match self {
            // Flat, row by row.
            Self::Whole(tensor) => {
                let length = tensor.shape.iter().product();
                body.extend_from_slice(b"\"data\":");
                json::write(body, &Tensor { shape: vec![length], ..(*tensor).clone() });
            }
            Self::Classes { texts, .. } => field(body, "data", texts),
        }
        None
    }

    fn bytes(&self) -> Bytes {
        match self {
            Self::Whole(tensor) => tensor.bytes.clone(),
            Self::Classes { texts, .. } => text::encode(texts).into(),
        }
    }
}

fn field(body: &mut Vec<u8>, name: &str, value: &(impl Serialize + ?Sized)) {
    // Texts and whole numbers always serialise.
    let _ = serde_json::to_writer(&mut *body, name);
    body.push(b':');
    let _ = serde_json::to_writer(body, value);
}
