//! `POST /predict`: a body to tensors, tensors to the batch queue, outputs to JSON.

use std::fmt;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};

use super::error::{Error, Kind, shown};
use super::{MAX_BODY, State};
use crate::batch::{Handle, Outputs};
use crate::model::named::Named;
use crate::model::spec::{Port, Scores, Spec};
use crate::telemetry::metrics::Outcome;
use crate::tensor::json::{self, Nested};
use crate::tensor::{Tensor, npy};

/// A body above this is parsed away from the threads that answer probes: parsing takes a few milliseconds a MiB.
const PARSED_INLINE: usize = 256 << 10;

pub(super) async fn predict(state: State, request: Request) -> Result<Response, Error> {
    let started = Instant::now();
    let phase = state.health.phase();
    let model = state.models.get().filter(|_| phase.takes_requests()).ok_or_else(|| Error::not_ready(phase))?.default();
    let result = infer(model, request, started + state.request_timeout).await;
    model.metrics.request(outcome(&result), started.elapsed());
    result
}

async fn infer(model: &Handle, request: Request, deadline: Instant) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let format = Format::of(&parts.headers)?;
    let body = read(&parts.headers, body, deadline).await?;
    let (inputs, rows) = parse(model, format, body).await?;
    let outputs = model.infer(inputs, rows, deadline).await?;
    Ok(answer(model, &outputs))
}

fn outcome(result: &Result<Response, Error>) -> Outcome {
    match result.as_ref().map_err(Error::status) {
        Ok(_) => Outcome::Ok,
        Err(status) if status.is_client_error() => Outcome::ClientError,
        Err(StatusCode::SERVICE_UNAVAILABLE) => Outcome::Refused,
        Err(_) => Outcome::ServerError,
    }
}

/// What the body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Npy,
    Raw,
}

impl Format {
    fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(Self::Json) };
        let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            // `curl -d` says the second, whatever it sends.
            "application/json" | "application/x-www-form-urlencoded" => Ok(Self::Json),
            "application/x-npy" => Ok(Self::Npy),
            "application/octet-stream" => Ok(Self::Raw),
            _ => {
                let got = shown(&String::from_utf8_lossy(value.as_bytes()));
                let message = format!(
                    "Content-Type is {got:?}, expected application/json, application/x-npy or application/octet-stream"
                );
                Err(Error::new(Kind::UnsupportedMediaType, message))
            }
        }
    }
}

/// The whole body, within its limit and its time.
async fn read(headers: &HeaderMap, mut body: Body, deadline: Instant) -> Result<Bytes, Error> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    // With Expect, a client waits for a word before it sends; without, it hears an answer only once it has sent all.
    let waits = headers.contains_key(header::EXPECT);
    let read = async {
        if announced.is_some_and(|bytes| bytes > MAX_BODY as u64) {
            if !waits {
                discard(body).await;
            }
            return Err(too_large());
        }
        match Limited::new(&mut body, MAX_BODY).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => {
                discard(body).await;
                Err(too_large())
            }
            Err(error) => Err(Error::bad_input(format!("the body broke off: {error}"))),
        }
    };
    tokio::time::timeout_at(deadline.into(), read)
        .await
        .unwrap_or_else(|_| Err(Error::new(Kind::BodyTimeout, "the body did not arrive before the request's deadline")))
}

fn too_large() -> Error {
    Error::new(Kind::TooLarge, format!("the body is larger than {MAX_BODY} bytes")).hint("send fewer rows a request")
}

/// Reads on for a moment, so that the answer is not lost to a client that is still sending.
async fn discard(mut body: Body) {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);
    let _ = tokio::time::timeout(PATIENCE, async { while let Some(Ok(_)) = body.frame().await {} }).await;
}

/// The body's tensors, one per input of the model, and their number of rows.
async fn parse(model: &Handle, format: Format, body: Bytes) -> Result<(Vec<Tensor>, usize), Error> {
    if body.len() <= PARSED_INLINE {
        return parse_now(&model.version.spec, format, &body);
    }
    let version = model.version.clone();
    tokio::task::spawn_blocking(move || parse_now(&version.spec, format, &body))
        .await
        .unwrap_or_else(|_| Err(Error::new(Kind::ModelFailed, "the server failed to parse the body")))
}

fn parse_now(spec: &Spec, format: Format, body: &[u8]) -> Result<(Vec<Tensor>, usize), Error> {
    let only = || match spec.inputs.as_slice() {
        [port] => Ok(port),
        ports => {
            let names: Vec<_> = ports.iter().map(|port| port.name.as_str()).collect();
            let message = format!("this body carries one tensor, the model takes {}", names.join(", "));
            Err(Error::bad_input(message).hint("send JSON: {\"inputs\": {\"name\": […], …}}"))
        }
    };
    let mut inputs = match format {
        Format::Json => parse_json(spec, body)?,
        Format::Npy => {
            only()?;
            vec![npy::read(body).map_err(|error| Error::bad_input(error.to_string()))?]
        }
        Format::Raw => vec![parse_raw(only()?, body)?],
    };
    let mut rows = None;
    for (tensor, port) in inputs.iter_mut().zip(&spec.inputs) {
        let counted = port.rows(tensor).map_err(Error::bad_input)?;
        let first = *rows.get_or_insert(counted);
        if first != counted {
            return Err(Error::bad_input(format!(
                "{}: {counted} rows, expected {first} as in {}",
                port.name, spec.inputs[0].name
            )));
        }
    }
    Ok((inputs, rows.unwrap_or(0)))
}

/// Row-major little-endian elements of whole rows.
fn parse_raw(port: &Port, body: &[u8]) -> Result<Tensor, Error> {
    let row = port.row_elements().ok_or_else(|| {
        Error::bad_input(format!("{}: shape {} leaves the row's size open", port.name, port.shape_text()))
            .hint("send JSON or .npy, which carry a shape")
    })?;
    let bytes = row * port.dtype.size();
    if body.is_empty() || !body.len().is_multiple_of(bytes) {
        return Err(Error::bad_input(format!(
            "{}: {} bytes, expected a multiple of {bytes}, a row of {} as {}",
            port.name,
            body.len(),
            port.shape_text(),
            port.dtype
        )));
    }
    let mut shape: Vec<usize> = port.shape.iter().map(|length| length.unwrap_or(1)).collect();
    shape[0] = body.len() / bytes;
    Ok(Tensor { dtype: port.dtype, shape, bytes: body.to_vec() })
}

fn parse_json(spec: &Spec, body: &[u8]) -> Result<Vec<Tensor>, Error> {
    let mut json = serde_json::Deserializer::from_slice(body);
    // A number takes two bytes or more of the body.
    let whole = Whole { ports: &spec.inputs, capacity: body.len() / 2 };
    whole
        .deserialize(&mut json)
        .and_then(|tensors| json.end().map(|()| tensors))
        .map_err(|error| Error::bad_input(error.to_string()).hint("expected {\"inputs\": […]}"))
}

/// `{"inputs": …}`, and nothing else.
struct Whole<'a> {
    ports: &'a [Port],
    capacity: usize,
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
            inputs = Some(map.next_value_seed(Inputs { ports: self.ports, capacity: self.capacity })?);
        }
        inputs.ok_or_else(|| A::Error::custom("the field inputs is missing"))
    }
}

/// One nested array where the model has one input; an object of them by name in any case.
struct Inputs<'a> {
    ports: &'a [Port],
    capacity: usize,
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
        let names: Vec<_> = self.ports.iter().map(|port| port.name.as_str()).collect();
        write!(f, "inputs: nested arrays, or an object with {}", names.join(", "))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, sequence: A) -> Result<Self::Value, A::Error> {
        let [port] = self.ports else {
            let names: Vec<_> = self.ports.iter().map(|port| port.name.as_str()).collect();
            return Err(serde::de::Error::custom(format_args!(
                "inputs: an array, expected an object with {}",
                names.join(", ")
            )));
        };
        let seed = Nested { field: "inputs", dtype: port.dtype, capacity: self.capacity };
        Ok(vec![seed.deserialize(serde::de::value::SeqAccessDeserializer::new(sequence))?])
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let ports: Vec<&Port> = self.ports.iter().collect();
        Named { ports: &ports }.visit_map(map)
    }
}

/// `{"model":…,"version":…,"outputs":{…},"predictions":[…]}`.
fn answer(model: &Handle, outputs: &Outputs) -> Response {
    let version = &model.version;
    let mut body = Vec::with_capacity(256 + outputs.iter().map(|(_, tensor)| tensor.bytes.len() * 3).sum::<usize>());
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
    predictions(&mut body, model, outputs);
    body.extend_from_slice(b"}\n");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The best label of each row, of the first output that has labels.
fn predictions(body: &mut Vec<u8>, model: &Handle, outputs: &Outputs) {
    let version = &model.version;
    let labelled = version.labels.iter().position(Option::is_some);
    let Some((index, labels)) = labelled.and_then(|index| Some((index, version.labels[index].as_ref()?))) else {
        return;
    };
    let Some((_, tensor)) = outputs.get(index) else { return };
    body.extend_from_slice(b",\"predictions\":[");
    let row = tensor.row_shape().iter().product::<usize>().max(1);
    for (number, scores) in tensor.to_f64().chunks_exact(row).enumerate() {
        if number > 0 {
            body.push(b',');
        }
        let scores = score(scores, version.spec.outputs[index].scores);
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
fn score(row: &[f64], scores: Scores) -> Vec<f64> {
    match scores {
        Scores::None => row.to_vec(),
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
