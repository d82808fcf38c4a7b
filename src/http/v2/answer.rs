//! Outputs to the protocol's answer: JSON, and behind it the raw bytes of those tensors that were asked for as such.

use axum::http::{HeaderName, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde::Serialize;

use crate::api;
use crate::api::asked::Asked;
use crate::api::classify::Content;
use crate::batch::Outputs;
use crate::http::error::Error;
use crate::model::Version;
use crate::tensor::{Tensor, json};

const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// The answer with the outputs that were asked for.
pub(super) fn write(version: &Version, outputs: &Outputs, asked: &Asked) -> Result<Response, Error> {
    let wanted = asked.select(outputs)?;
    let mut body = Vec::with_capacity(256 + 3 * api::size(outputs));
    body.push(b'{');
    if !asked.id.is_empty() {
        field(&mut body, "id", &asked.id);
        body.push(b',');
    }
    field(&mut body, "model_name", &version.name);
    body.push(b',');
    field(&mut body, "model_version", &version.version);
    body.extend_from_slice(b",\"outputs\":[");
    let mut raw: Vec<Bytes> = Vec::new();
    for (number, (index, wish)) in wanted.into_iter().enumerate() {
        if number > 0 {
            body.push(b',');
        }
        let (name, tensor) = &outputs[index];
        body.push(b'{');
        field(&mut body, "name", &**name);
        let content = Content::of(version, index, tensor, wish)?;
        raw.extend(write_content(&mut body, &content, wish.binary.unwrap_or(asked.parameters.binary)));
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

/// Appends all fields of an output but its name. Returns the bytes that belong behind the JSON, if they are to be there.
fn write_content(body: &mut Vec<u8>, content: &Content, is_binary: bool) -> Option<Bytes> {
    body.push(b',');
    field(body, "datatype", content.datatype());
    body.push(b',');
    field(body, "shape", &content.shape());
    body.push(b',');
    if is_binary {
        let bytes = content.bytes();
        body.extend_from_slice(b"\"parameters\":{");
        field(body, "binary_data_size", &bytes.len());
        body.push(b'}');
        return Some(bytes);
    }
    match content {
        // Flat, row by row.
        Content::Whole(tensor) => {
            let length = tensor.shape.iter().product();
            body.extend_from_slice(b"\"data\":");
            json::write(body, &Tensor { shape: vec![length], ..(*tensor).clone() });
        }
        Content::Classes { texts, .. } => field(body, "data", texts),
    }
    None
}

fn field(body: &mut Vec<u8>, name: &str, value: &(impl Serialize + ?Sized)) {
    // Texts and whole numbers always serialise.
    let _ = serde_json::to_writer(&mut *body, name);
    body.push(b':');
    let _ = serde_json::to_writer(body, value);
}
