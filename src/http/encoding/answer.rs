//! An answer, encoded for a client that takes it: quickly rather than tightly, since the cores are the models'.

use std::io::{self, Write as _};

use axum::body::{Body, Bytes, HttpBody as _};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http_body_util::BodyExt as _;

use super::{Accepted, Coding, coded};
use crate::http::error::{Error, Kind};

/// Bytes below which an answer is left as it is: it fits in a packet.
const SMALLEST: u64 = 1 << 10;
/// Encoding costs some times what writing costs.
const WEIGHT: usize = 4;

/// `response` as `accepted`, where that is worth it. Bodies that come piece by piece, whose size nobody knows, are left.
pub(in crate::http) async fn encoded(accepted: Accepted, response: Response) -> Response {
    let length = response.body().size_hint().exact();
    if length.is_none_or(|length| length < SMALLEST) || response.headers().contains_key(CONTENT_ENCODING) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    let wanted = accepted.best.filter(|_| accepted.is_only || !is_binary(&parts.headers));
    let Some(coding) = wanted else { return Response::from_parts(parts, body) };
    // Apart from the state of every request, few of which come here.
    match Box::pin(encode(coding, body)).await {
        Ok(bytes) => {
            parts.headers.remove(CONTENT_LENGTH); // It is told from the body.
            parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
            Response::from_parts(parts, Body::from(bytes))
        }
        Err(error) => error.into_response(),
    }
}

/// Tensors as they are: their bytes hardly get fewer.
fn is_binary(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value == "application/octet-stream")
}

async fn encode(coding: Coding, body: Body) -> Result<Vec<u8>, Error> {
    let failed = || Error::new(Kind::ModelFailed, "the server failed to encode the answer");
    let bytes = body.collect().await.map_err(|_| failed())?.to_bytes();
    let encoded = coded(bytes.len().saturating_mul(WEIGHT), move || encode_now(coding, &bytes)).await?;
    encoded.map_err(|_| failed())
}

fn encode_now(coding: Coding, bytes: &Bytes) -> io::Result<Vec<u8>> {
    let room = Vec::with_capacity(bytes.len() / 3);
    match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(room, Compression::fast());
            encoder.write_all(bytes)?;
            encoder.finish()
        }
        Coding::Deflate => {
            let mut encoder = ZlibEncoder::new(room, Compression::fast());
            encoder.write_all(bytes)?;
            encoder.finish()
        }
        Coding::Zstd => zstd::bulk::compress(bytes, 1),
    }
}
