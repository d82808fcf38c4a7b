//! One line for a request, at debug level.

use std::time::Instant;

use axum::extract::Request;
use axum::http::{HeaderValue, Method, Uri, Version};
use axum::response::Response;

use super::Ids;

/// Under this name, `--log-filter` shows requests, those over gRPC among them.
const LOG: &str = "torchpod::http";

/// What is kept of a request for its line.
pub struct Line {
    method: Method,
    uri: Uri,
    version: Version,
    began: Instant,
}

impl Line {
    /// `None` where nobody wants to read it.
    pub fn of(request: &Request) -> Option<Self> {
        let (method, uri, version) = (request.method(), request.uri(), request.version());
        let line = || Self { method: method.clone(), uri: uri.clone(), version, began: Instant::now() };
        tracing::enabled!(target: LOG, tracing::Level::DEBUG).then(line)
    }

    /// Writes how it was answered: over gRPC, `status` is 200, and an error is in `grpc_status` where nothing but an error
    /// was sent.
    pub fn write(self, ids: Option<&Ids>, response: &Response) {
        tracing::debug!(
            target: LOG,
            method = %self.method,
            uri = %self.uri,
            version = ?self.version,
            request_id = ids.map(Ids::request),
            trace_id = ids.and_then(Ids::trace).map(tracing::field::display),
            status = response.status().as_u16(),
            grpc_status = response.headers().get("grpc-status").and_then(|value: &HeaderValue| value.to_str().ok()),
            seconds = self.began.elapsed().as_secs_f64(),
            "answered"
        );
    }
}
