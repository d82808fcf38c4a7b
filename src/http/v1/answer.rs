//! Outputs in the form of the request: `predictions`, one a row, or `outputs`, whole. A single output stands alone,
//! several by their names.

use std::sync::Arc;

use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use super::request::Form;
use crate::api;
use crate::batch::Outputs;
use crate::http::error::Error;
use crate::tensor::{Tensor, json};

/// The answer to a request of `rows` rows.
pub(super) fn write(outputs: &Outputs, rows: usize, form: Form) -> Result<Response, Error> {
    let mut body = Vec::with_capacity(64 + 3 * api::size(outputs));
    match form {
        Form::Rows => {
            refuse_other_rows(outputs, rows)?;
            body.extend_from_slice(b"{\"predictions\":");
            predictions(&mut body, outputs, rows);
        }
        Form::Columns => {
            body.extend_from_slice(b"{\"outputs\":");
            match outputs.as_slice() {
                [(_, tensor)] => json::write(&mut body, tensor),
                _ => object(&mut body, outputs, json::write),
            }
        }
    }
    body.extend_from_slice(b"}\n");
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Outputs that are not as many as the rows belong to none of them: such as a mean of all, of a model that is not row-wise.
fn refuse_other_rows(outputs: &Outputs, rows: usize) -> Result<(), Error> {
    match outputs.iter().find(|(_, tensor)| tensor.shape.first() != Some(&rows)) {
        Some((name, tensor)) => {
            let message = format!("{name}: shape {:?} has no value for each of {rows} instances", tensor.shape);
            Err(Error::bad_input(message).hint("send {\"inputs\": …} for outputs as they are"))
        }
        None => Ok(()),
    }
}

fn predictions(body: &mut Vec<u8>, outputs: &Outputs, rows: usize) {
    if let [(_, tensor)] = outputs.as_slice() {
        return json::write(body, tensor);
    }
    body.push(b'[');
    for row in 0..rows {
        if row > 0 {
            body.push(b',');
        }
        object(body, outputs, |body, tensor| {
            let row = tensor.slice(row..row + 1);
            json::write(body, &Tensor { shape: row.row_shape().to_vec(), ..row });
        });
    }
    body.push(b']');
}

/// The outputs by their names, each written by `write`.
fn object(body: &mut Vec<u8>, outputs: &[(Arc<str>, Tensor)], write: impl Fn(&mut Vec<u8>, &Tensor)) {
    body.push(b'{');
    for (number, (name, tensor)) in outputs.iter().enumerate() {
        if number > 0 {
            body.push(b',');
        }
        // A text always serialises.
        let _ = serde_json::to_writer(&mut *body, &**name);
        body.push(b':');
        write(body, tensor);
    }
    body.push(b'}');
}
