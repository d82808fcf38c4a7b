//! What went wrong, as HTTP says it. The table of statuses is `api::error`'s.

use std::any::Any;

use axum::body::Body;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::api::Ids;
pub use crate::api::error::{Error, Kind, shown};

#[derive(Serialize)]
struct Envelope<'a> {
    error: Detail<'a>,
}

#[derive(Serialize)]
struct Detail<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// torchpod's own form: `{"error":{"code":…,"message":…,"hint":…}}`.
impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let detail = Detail { code: self.name(), message: self.message(), hint: self.hinted() };
        respond(&self, &Envelope { error: detail })
    }
}

/// An error in the form of the Open Inference Protocol and of TF Serving: `{"error":"…"}`.
#[derive(Debug)]
pub struct Flat(pub Error);

impl From<Error> for Flat {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Flat {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let text = match error.hinted() {
            Some(hint) => format!("{}; {hint}", error.message()),
            None => error.message().to_owned(),
        };
        respond(&error, &serde_json::json!({ "error": text }))
    }
}

fn respond(error: &Error, body: &impl Serialize) -> Response {
    let mut response = json(error.status(), body);
    let headers = response.headers_mut();
    if error.status() == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(header::RETRY_AFTER, error.retry_after().into());
    }
    if error.kind() == Kind::UnsupportedEncoding {
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate, zstd"));
    }
    if error.status() == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A JSON answer, ended by a newline for those who read it in a terminal.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // None of our bodies can fail to serialise: they hold texts and numbers.
    let mut bytes = serde_json::to_vec(body).unwrap_or_default();
    bytes.push(b'\n');
    (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

impl Error {
    /// A path that does not take this method; the Allow header is the router's.
    pub(super) fn no_method(method: &Method, path: &str) -> Self {
        Self::method_not_allowed(format!("{} does not take {}", shown(path), shown(method.as_str())))
            .hint("the Allow header names the methods that it takes")
    }
}

/// What a handler that panicked answers; the log has the rest, in the line before this one's.
pub fn panicked(_panic: Box<dyn Any + Send>, ids: Option<&Ids>) -> Response<Body> {
    let trace_id = ids.and_then(Ids::trace).map(tracing::field::display);
    tracing::error!(request_id = ids.map(Ids::request), trace_id, "request failed: its handler panicked");
    Error::new(Kind::ModelFailed, "the server failed on this request").into_response()
}
