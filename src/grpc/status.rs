//! What went wrong, as gRPC says it. The table of codes is `api::error`'s.

use axum::http::HeaderMap;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::api::{Error, identity};
use crate::batch::Handle;

/// The error with its code, its hint, and in its trailers when to try again and which version answered, if one was found.
pub(super) fn of(error: &Error, model: Option<&Handle>) -> Status {
    let text = match error.hinted() {
        Some(hint) => format!("{}; {hint}", error.message()),
        None => error.message().to_owned(),
    };
    let mut trailers = HeaderMap::new();
    if let Some(model) = model {
        identity::write(model, &mut trailers);
    }
    if error.code() == Code::Unavailable {
        trailers.insert("retry-after", error.retry_after().into());
    }
    Status::with_metadata(error.code(), text, MetadataMap::from_headers(trailers))
}

#[allow(clippy::needless_pass_by_value)] // So that it can be named where an error is mapped.
pub(super) fn plain(error: Error) -> Status {
    of(&error, None)
}
