//! Why a command stops, in a sentence that says what to do.

use std::time::Duration;

use super::track::Odd;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot tell where the cluster is: {0}")]
    Unconfigured(String),
    #[error("there is no {kind} {name} in namespace {namespace}{hint}")]
    Missing { kind: String, name: String, namespace: String, hint: String },
    #[error(
        "not allowed to {verb} {resource} in namespace {namespace}: {said}; `kubectl apply -k k8s/release-rights` grants all that is needed"
    )]
    Forbidden { verb: &'static str, resource: String, namespace: String, said: String },
    /// Somebody has changed the object since it was read. Whoever gets it reads again and decides again.
    #[error("{0} was changed by somebody else at the same time")]
    Conflict(String),
    #[error("the API server refuses to {what}: {said}")]
    Rejected { what: String, said: String },
    #[error("the API server has not answered for {} ({what}: {last})", humantime::format_duration(*patience))]
    Silent { what: String, patience: Duration, last: String },
    #[error(transparent)]
    Odd(#[from] Odd),
    /// The decision itself.
    #[error("{0}")]
    Refused(String),
    #[error(
        "{holder} is at it already, and alive: wait for its end, end it there, or take a canary back by `kubectl torchpod rollback`"
    )]
    Held { holder: String },
    #[error(
        "{holder} has taken over, since this run was not heard of for too long: watch it by `kubectl torchpod status`"
    )]
    TakenOver { holder: String },
}
