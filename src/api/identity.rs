//! Who answered, and which request it was: the headers of a model's answers, the request's id, and its trace.

use std::num::NonZeroU64;

use axum::Router;
use axum::extract::Request;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::Response;
use tower::ServiceBuilder;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};

use crate::api::Ids;
use crate::api::trace::Caller;
use crate::batch::Handle;

const MODEL: HeaderName = HeaderName::from_static("torchpod-model");
const VERSION: HeaderName = HeaderName::from_static("torchpod-model-version");
const DIGEST: HeaderName = HeaderName::from_static("torchpod-model-digest");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The longest id that is taken from a client, in bytes.
const LONGEST_ID: usize = 128;

/// Says of an answer, good or bad, which version gave it.
pub fn stamp(model: &Handle, mut response: Response) -> Response {
    write(model, response.headers_mut());
    response
}

/// Writes which version answers.
pub fn write(model: &Handle, headers: &mut HeaderMap) {
    let identity = model.identity();
    let values = [(MODEL, &identity.model), (VERSION, &identity.version), (DIGEST, &identity.digest)];
    for (name, value) in values {
        headers.insert(name, value.clone());
    }
}

/// `router`, whose requests and answers all have an id: the client's own, or a new one; and which answers in its client's
/// trace.
///
/// Not around probes: they would pay for an id that nobody looks for.
pub fn with_ids(router: Router) -> Router {
    let layers = ServiceBuilder::new()
        .map_request(without_odd_id)
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(middleware::from_fn(trace));
    router.layer(layers)
}

/// Takes away an id that is too long, or that would be trouble in a log; a new one takes its place.
fn without_odd_id(mut request: Request) -> Request {
    let is_odd =
        |id: &HeaderValue| id.is_empty() || id.len() > LONGEST_ID || !id.as_bytes().iter().all(|byte| is_plain(*byte));
    let mut ids = request.headers().get_all(REQUEST_ID).iter();
    if ids.next().is_some_and(is_odd) || ids.next().is_some() {
        request.headers_mut().remove(REQUEST_ID);
    }
    request
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(&byte)
}

/// Answers a request that says where in a trace it belongs with a span of ours in that trace, and its `tracestate` as it
/// came. One that says nothing, or nothing valid, gets none: whoever begins a trace must also collect it.
async fn trace(mut request: Request, next: Next) -> Response {
    let headers = request.headers();
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let caller = parents.next().filter(|_| parents.next().is_none()).and_then(|value| Caller::read(value.as_bytes()));
    let Some(caller) = caller else { return next.run(request).await };
    let states: Vec<HeaderValue> = headers.get_all(TRACESTATE).iter().cloned().collect();
    request.extensions_mut().insert(caller);
    let mut response = next.run(request).await;
    let span = NonZeroU64::new(fastrand::u64(1..)).unwrap_or(NonZeroU64::MIN);
    let headers = response.headers_mut();
    // Digits and dashes are fit for a header.
    headers.extend(HeaderValue::from_str(&caller.answer(span)).ok().map(|value| (TRACEPARENT, value)));
    headers.extend(states.into_iter().map(|state| (TRACESTATE, state)));
    response
}

/// The request's ids, for the log.
pub fn of(extensions: &Extensions) -> Ids {
    let id = extensions.get::<RequestId>().and_then(|id| id.header_value().to_str().ok());
    Ids { request: id.map(str::to_owned), trace: extensions.get::<Caller>().map(|caller| caller.trace) }
}
