//! One table from what went wrong to status and code, and the body that says so.

use std::any::Any;
use std::borrow::Cow;
use std::time::Duration;

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::batch;
use crate::lifecycle::Phase;

/// What a client is told. The message never carries a path, a backtrace or C++ text.
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<Cow<'static, str>>,
    retry_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    BadInput,
    NotFound,
    MethodNotAllowed,
    BodyTimeout,
    TooLarge,
    UnsupportedMediaType,
    HeadTooLarge,
    ModelFailed,
    Overloaded,
    OutOfMemory,
    NotReady,
    Deadline,
}

/// The longest message, in characters: it may quote the client, but not send it back whole.
const LONGEST_MESSAGE: usize = 400;

/// The table: kind, status, code.
const TABLE: [(Kind, StatusCode, &str); 12] = [
    (Kind::BadInput, StatusCode::BAD_REQUEST, "bad_input"),
    (Kind::NotFound, StatusCode::NOT_FOUND, "not_found"),
    (Kind::MethodNotAllowed, StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
    (Kind::BodyTimeout, StatusCode::REQUEST_TIMEOUT, "body_timeout"),
    (Kind::TooLarge, StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
    (Kind::UnsupportedMediaType, StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
    (Kind::HeadTooLarge, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "head_too_large"),
    (Kind::ModelFailed, StatusCode::INTERNAL_SERVER_ERROR, "model_failed"),
    (Kind::Overloaded, StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
    (Kind::OutOfMemory, StatusCode::SERVICE_UNAVAILABLE, "out_of_memory"),
    (Kind::NotReady, StatusCode::SERVICE_UNAVAILABLE, "not_ready"),
    (Kind::Deadline, StatusCode::GATEWAY_TIMEOUT, "deadline_exceeded"),
];

impl Error {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        // serde's messages quote what they could not read, whole.
        Self { kind, message: cut(message.into(), LONGEST_MESSAGE), hint: None, retry_after: Duration::ZERO }
    }

    pub fn bad_input(message: impl Into<String>) -> Self {
        Self::new(Kind::BadInput, message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    pub fn method_not_allowed(message: impl Into<String>) -> Self {
        Self::new(Kind::MethodNotAllowed, message)
    }

    pub fn not_ready(phase: Phase) -> Self {
        Self::new(Kind::NotReady, format!("the server is {phase}, not serving")).hint("GET /ready says when it serves")
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What `Retry-After` says, in whole seconds, where the status is 503.
    fn retry_after(&self) -> u64 {
        const LONGEST: u64 = 60;
        let whole = self.retry_after.as_secs() + u64::from(self.retry_after.subsec_nanos() > 0);
        whole.clamp(1, LONGEST)
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn status(&self) -> StatusCode {
        TABLE[self.kind as usize].1
    }
}

impl From<batch::Error> for Error {
    fn from(error: batch::Error) -> Self {
        let kind = match error {
            batch::Error::Overloaded { .. } => Kind::Overloaded,
            batch::Error::OutOfMemory => Kind::OutOfMemory,
            batch::Error::Deadline | batch::Error::Late { .. } => Kind::Deadline,
            batch::Error::Failed(_) => Kind::ModelFailed,
            batch::Error::Lost => Kind::NotReady,
        };
        let retry_after = error.retry_after().unwrap_or_default();
        Self { retry_after, ..Self::new(kind, error.to_string()) }
    }
}

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

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (_, status, code) = TABLE[self.kind as usize];
        let body = Envelope { error: Detail { code, message: &self.message, hint: self.hint.as_deref() } };
        let mut response = json(status, &body);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, self.retry_after().into());
        }
        response
    }
}

/// A JSON answer, ended by a newline for those who read it in a terminal.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response {
    // None of our bodies can fail to serialise: they hold texts and numbers.
    let mut bytes = serde_json::to_vec(body).unwrap_or_default();
    bytes.push(b'\n');
    (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

/// What a handler that panicked answers; the log has the rest.
pub fn panicked(_panic: Box<dyn Any + Send>) -> Response<Body> {
    Error::new(Kind::ModelFailed, "the server failed on this request").into_response()
}

/// A client's own text, cut to a length that is fit to be sent back.
pub fn shown(text: &str) -> String {
    const LONGEST: usize = 80;
    cut(text.to_owned(), LONGEST)
}

/// `text`, or its first `longest` characters.
fn cut(mut text: String, longest: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(longest) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_kinds() {
        for (index, (kind, ..)) in TABLE.iter().enumerate() {
            assert_eq!(*kind as usize, index);
        }
    }

    #[test]
    fn whoever_meets_a_full_queue_is_told_when_to_come_back_in_whole_seconds() {
        let table = [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (59_001, "60"), (3_600_000, "60")];
        for (millis, told) in table {
            let error = batch::Error::Overloaded { waiting: 9, retry_after: Duration::from_millis(millis) };
            let response = Error::from(error).into_response();
            assert_eq!(response.headers()[header::RETRY_AFTER], told, "after {millis} ms");
        }
        let late = Error::from(batch::Error::Late { needs: Duration::from_secs(3) });
        assert_eq!((late.status(), late.kind), (StatusCode::GATEWAY_TIMEOUT, Kind::Deadline));
    }
}
