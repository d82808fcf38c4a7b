//! One table from what went wrong to what clients are told: HTTP's status, gRPC's code, and a word for programs.

use std::borrow::Cow;
use std::time::Duration;

use axum::http::StatusCode;
use tonic::Code;

use crate::batch;
use crate::batch::control::Refused;
use crate::lifecycle::Phase;
use crate::tensor::pool::Full;

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
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    BodyTimeout,
    Conflict,
    TooLarge,
    UnsupportedMediaType,
    UnsupportedEncoding,
    HeadTooLarge,
    ModelFailed,
    LoadFailed,
    Overloaded,
    OutOfMemory,
    NotReady,
    Deadline,
}

/// The longest message, in characters: it may quote the client, but not send it back whole.
const LONGEST_MESSAGE: usize = 400;

/// The table: kind, HTTP status, gRPC code, and the code that JSON bodies carry.
const TABLE: [(Kind, StatusCode, Code, &str); 17] = [
    (Kind::BadInput, StatusCode::BAD_REQUEST, Code::InvalidArgument, "bad_input"),
    (Kind::Unauthorized, StatusCode::UNAUTHORIZED, Code::Unauthenticated, "unauthorized"),
    (Kind::Forbidden, StatusCode::FORBIDDEN, Code::PermissionDenied, "forbidden"),
    (Kind::NotFound, StatusCode::NOT_FOUND, Code::NotFound, "not_found"),
    (Kind::MethodNotAllowed, StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, "method_not_allowed"),
    (Kind::BodyTimeout, StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, "body_timeout"),
    (Kind::Conflict, StatusCode::CONFLICT, Code::Aborted, "conflict"),
    (Kind::TooLarge, StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted, "too_large"),
    (Kind::UnsupportedMediaType, StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, "unsupported_media_type"),
    (Kind::UnsupportedEncoding, StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, "unsupported_encoding"),
    (Kind::HeadTooLarge, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Code::ResourceExhausted, "head_too_large"),
    (Kind::ModelFailed, StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, "model_failed"),
    (Kind::LoadFailed, StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, "load_failed"),
    (Kind::Overloaded, StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "overloaded"),
    (Kind::OutOfMemory, StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "out_of_memory"),
    (Kind::NotReady, StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "not_ready"),
    (Kind::Deadline, StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded, "deadline_exceeded"),
];

impl Kind {
    /// All there are.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|(kind, ..)| *kind)
    }

    pub fn status(self) -> StatusCode {
        TABLE[self as usize].1
    }

    /// gRPC's.
    pub fn code(self) -> Code {
        TABLE[self as usize].2
    }

    /// For programs that read JSON.
    pub fn name(self) -> &'static str {
        TABLE[self as usize].3
    }
}

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

    /// A body and its tensors together need so many bytes, or more, and the pool did not lend them: where it never lends as
    /// many, it is no use to try again.
    pub fn no_room(full: Full, needed: usize) -> Self {
        if needed <= full.limit {
            return full.into();
        }
        let message = format!("body and tensors need {needed} bytes together, expected at most {}", full.limit);
        Self::new(Kind::TooLarge, message).hint("send fewer rows a request, or raise --request-memory")
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What `Retry-After` says, in whole seconds, where the status is 503.
    pub fn retry_after(&self) -> u64 {
        const LONGEST: u64 = 60;
        let whole = self.retry_after.as_secs() + u64::from(self.retry_after.subsec_nanos() > 0);
        whole.clamp(1, LONGEST)
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn message(&self) -> &str {
        &self.message
    }

    pub fn hinted(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    pub fn status(&self) -> StatusCode {
        self.kind.status()
    }

    /// gRPC's.
    pub fn code(&self) -> Code {
        self.kind.code()
    }

    /// For programs that read JSON.
    pub fn name(&self) -> &'static str {
        self.kind.name()
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

impl From<Full> for Error {
    fn from(full: Full) -> Self {
        Self::new(Kind::Overloaded, full.to_string()).hint("send fewer rows at a time, or raise --request-memory")
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        let kind = match refused {
            Refused::Off => Kind::Forbidden,
            Refused::Unknown(_) => Kind::NotFound,
            Refused::Folder(_) => Kind::BadInput,
            Refused::Failed(_) => Kind::LoadFailed,
            Refused::TimedOut { .. } => Kind::Deadline,
            Refused::Overtaken(_) => Kind::Conflict,
            Refused::Busy | Refused::Closed(_) => Kind::NotReady,
        };
        Self::new(kind, refused.to_string())
    }
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
        let table = [(0, 1), (1, 1), (1000, 1), (1001, 2), (59_001, 60), (3_600_000, 60)];
        for (millis, told) in table {
            let error = batch::Error::Overloaded { waiting: 9, retry_after: Duration::from_millis(millis) };
            assert_eq!(Error::from(error).retry_after(), told, "after {millis} ms");
        }
        let late = Error::from(batch::Error::Late { needs: Duration::from_secs(3) });
        assert_eq!((late.status(), late.kind), (StatusCode::GATEWAY_TIMEOUT, Kind::Deadline));
    }
}
