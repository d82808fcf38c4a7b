//! Why an API server refuses a request: a reason, a status and the words that clients show.

use serde_json::{Value, json};
use thiserror::Error;

use super::Resource;

#[derive(Clone, Debug, Error, PartialEq)]
pub(crate) enum Problem {
    #[error("the server could not find the requested resource")]
    UnknownKind,
    #[error("the server does not allow this method on the requested resource")]
    NotAllowed,
    #[error("{plural} \"{name}\" not found")]
    NotFound { plural: String, name: String },
    #[error("{plural} \"{name}\" already exists")]
    Exists { plural: String, name: String },
    #[error("Operation cannot be fulfilled on {plural} \"{name}\": {why}")]
    Conflict { plural: String, name: String, why: String },
    #[error("{kind} \"{name}\" is invalid: {why}")]
    Invalid { kind: String, name: String, why: String },
    #[error("{0}")]
    Bad(String),
    #[error("the body of the request was in an unknown format: {0}")]
    Media(String),
    #[error("Cannot evict pod as it would violate the pod's disruption budget.")]
    Budget { cause: String },
    #[error("{0}")]
    Forbidden(String),
    #[error("too old resource version: {asked} ({oldest})")]
    Gone { asked: u64, oldest: u64 },
    #[error("{0}")]
    Unavailable(String),
}

/// What clients of optimistic locking are told.
const MODIFIED: &str = "the object has been modified; please apply your changes to the latest version and try again";

impl Problem {
    pub(crate) fn not_found(resource: &Resource, name: &str) -> Problem {
        Problem::NotFound { plural: resource.qualified(), name: name.to_owned() }
    }

    pub(crate) fn exists(resource: &Resource, name: &str) -> Problem {
        Problem::Exists { plural: resource.qualified(), name: name.to_owned() }
    }

    pub(crate) fn conflict(resource: &Resource, name: &str) -> Problem {
        Problem::Conflict { plural: resource.qualified(), name: name.to_owned(), why: MODIFIED.to_owned() }
    }

    pub(crate) fn invalid(resource: &Resource, name: &str, why: impl Into<String>) -> Problem {
        Problem::Invalid { kind: resource.qualified_kind(), name: name.to_owned(), why: why.into() }
    }

    pub(crate) fn code(&self) -> u16 {
        self.table().0
    }

    /// The one table from problem to status and reason.
    fn table(&self) -> (u16, &'static str) {
        match self {
            Problem::UnknownKind | Problem::NotFound { .. } => (404, "NotFound"),
            Problem::NotAllowed => (405, "MethodNotAllowed"),
            Problem::Exists { .. } => (409, "AlreadyExists"),
            Problem::Conflict { .. } => (409, "Conflict"),
            Problem::Invalid { .. } => (422, "Invalid"),
            Problem::Bad(_) => (400, "BadRequest"),
            Problem::Media(_) => (415, "UnsupportedMediaType"),
            Problem::Budget { .. } => (429, "TooManyRequests"),
            Problem::Forbidden(_) => (403, "Forbidden"),
            Problem::Gone { .. } => (410, "Expired"),
            Problem::Unavailable(_) => (503, "ServiceUnavailable"),
        }
    }

    /// The Status object that says so.
    pub(crate) fn status(&self) -> Value {
        let (code, reason) = self.table();
        let details = match self {
            Problem::Budget { cause } => json!({"causes": [{"reason": "DisruptionBudget", "message": cause}]}),
            Problem::NotFound { name, .. } | Problem::Exists { name, .. } | Problem::Conflict { name, .. } => {
                json!({"name": name})
            }
            _ => json!({}),
        };
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.to_string(), "reason": reason, "code": code, "details": details,
        })
    }
}
