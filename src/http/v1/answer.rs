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
                _ => object(&mut body, outputs),
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
    let mut rest = outputs.clone();
    for row in 0..rows {
        if row > 0 {
            body.push(b',');
        }
        let first = rest.iter_mut().map(|(name, tensor)| {
            let row = tensor.split_to(1);
            (name.clone(), Tensor { shape: row.row_shape().to_vec(), ..row })
        });
        object(body, &first.collect::<Vec<_>>());
    }
    body.push(b']');
}

/// The outputs by their names.
fn object(body: &mut Vec<u8>, outputs: &[(Arc<str>, Tensor)]) {
    body.push(b'{');
    for (number, (name, tensor)) in outputs.iter().enumerate() {
        if number > 0 {
            body.push(b',');
        }
        // A text always serialises.
        let _ = serde_json::to_writer(&mut *body, &**name);
        body.push(b':');
        json::write(body, tensor);
    }
    body.push(b'}');
}
