//! Outputs to JSON, with labels and scores where the model has labels.

use std::iter;

use axum::http::header;
use axum::response::{IntoResponse as _, Response};

use crate::batch::Outputs;
use crate::model::Version;
use crate::model::spec::Scores;
use crate::tensor::{DType, Tensor, json};

/// `{"model":…,"version":…,"outputs":{…},"predictions":[…]}`.
pub(super) fn json(version: &Version, outputs: &Outputs) -> Response {
    let mut body = Vec::with_capacity(room(version, outputs));
    body.extend_from_slice(b"{\"model\":");
    text(&mut body, &version.name);
    body.extend_from_slice(b",\"version\":");
    text(&mut body, &version.version);
    body.extend_from_slice(b",\"outputs\":{");
    for (index, (name, tensor)) in outputs.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        text(&mut body, name);
        body.push(b':');
        json::write(&mut body, tensor);
    }
    body.push(b'}');
    predictions(&mut body, version, outputs);
    body.extend_from_slice(b"}\n");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Bytes that an answer takes, about: where they are many, to move them to a larger place would take as many again.
fn room(version: &Version, outputs: &Outputs) -> usize {
    const PREDICTION: usize = "{\"label\":\"a word or two\",\"score\":0.123456},".len();
    // Texts stay as long as they are, but for what must be escaped; numbers become longer.
    let length = |tensor: &Tensor| tensor.bytes.len() * if tensor.dtype == DType::Bytes { 1 } else { 3 };
    let predictions = labelled(version, outputs).map_or(0, |(tensor, ..)| tensor.rows() * PREDICTION);
    256 + predictions + outputs.iter().map(|(_, tensor)| length(tensor)).sum::<usize>()
}

/// The first output that has labels, with them.
fn labelled<'a>(version: &'a Version, outputs: &'a Outputs) -> Option<(&'a Tensor, &'a [String], Scores)> {
    let index = version.labels.iter().position(Option::is_some)?;
    let (_, tensor) = outputs.get(index)?;
    Some((tensor, version.labels[index].as_deref()?, version.spec.outputs[index].scores))
}

/// The best label of each row.
fn predictions(body: &mut Vec<u8>, version: &Version, outputs: &Outputs) {
    let Some((tensor, labels, scores)) = labelled(version, outputs) else { return };
    body.extend_from_slice(b",\"predictions\":[");
    let row = tensor.row_shape().iter().product::<usize>().max(1);
    // Row by row: all of them as f64 would be twice as large as the tensor.
    let mut numbers = tensor.numbers();
    let rows = iter::from_fn(|| Some(numbers.by_ref().take(row).collect::<Vec<_>>()).filter(|row| !row.is_empty()));
    for (number, row) in rows.enumerate() {
        if number > 0 {
            body.push(b',');
        }
        let scores = score(row, scores);
        let best = scores.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
        let (best, score) = best.unwrap_or((0, f64::NAN));
        body.extend_from_slice(b"{\"label\":");
        text(body, labels.get(best).map_or("", String::as_str));
        body.extend_from_slice(b",\"score\":");
        // Six digits: more would be noise. NaN becomes null.
        let rounded = (score * 1e6).round() / 1e6;
        let _ = serde_json::to_writer(&mut *body, &rounded);
        body.push(b'}');
    }
    body.push(b']');
}

/// One row's numbers as scores.
fn score(row: Vec<f64>, scores: Scores) -> Vec<f64> {
    match scores {
        Scores::None => row,
        Scores::Sigmoid => row.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
        Scores::Softmax => {
            let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = row.iter().map(|x| (x - highest).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.into_iter().map(|power| power / sum).collect()
        }
    }
}

fn text(body: &mut Vec<u8>, text: &str) {
    // A text always serialises.
    let _ = serde_json::to_writer(body, text);
}
