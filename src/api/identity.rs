//! Who answered, and which request it was: the headers of a model's answers, the request's id, and its trace.

use std::num::NonZeroU64;

use axum::Router;
use axum::extract::Request;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::Response;
use uuid::Builder;

use crate::api::trace::{Caller, Id};
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

/// By what a request is found in logs, and its answer in those of its client: its own id, and the trace it belongs to.
#[derive(Clone, Debug)]
pub struct Ids {
    request: HeaderValue,
    caller: Option<Caller>,
    /// `tracestate`, as it came.
    states: Vec<HeaderValue>,
}

impl Ids {
    /// The client's own id, or a new one where it has none, or one that is too long, or that would be trouble in a log.
    ///
    /// A request that says where in a trace it belongs is answered with a span of ours in that trace, and its
    /// `tracestate` as it came. One that says nothing, or nothing valid, gets none: whoever begins a trace must also
    /// collect it.
    pub fn of(headers: &HeaderMap) -> Self {
        let request = only(headers, &REQUEST_ID).filter(|id| is_plain(id)).cloned().unwrap_or_else(new_id);
        let caller = only(headers, &TRACEPARENT).and_then(|value| Caller::read(value.as_bytes()));
        let states = caller.map(|_| headers.get_all(TRACESTATE).iter().cloned().collect());
        Self { request, caller, states: states.unwrap_or_default() }
    }

    /// The request's own.
    pub fn request(&self) -> &str {
        self.request.to_str().unwrap_or_default() // It is plain.
    }

    pub fn trace(&self) -> Option<Id> {
        self.caller.map(|caller| caller.trace)
    }

    /// Writes them into the headers of the answer.
    pub fn answer(self, headers: &mut HeaderMap) {
        headers.insert(REQUEST_ID, self.request);
        let Some(caller) = self.caller else { return };
        let span = NonZeroU64::new(fastrand::u64(1..)).unwrap_or(NonZeroU64::MIN);
        // Digits and dashes are fit for a header.
        headers.extend(HeaderValue::from_str(&caller.answer(span)).ok().map(|value| (TRACEPARENT, value)));
        headers.extend(self.states.into_iter().map(|state| (TRACESTATE, state)));
    }
}

/// A random UUID. Not of the system's randomness, which is a call into the kernel: nobody is kept out by it.
fn new_id() -> HeaderValue {
    let id = Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    // Digits and dashes are fit for a header.
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).unwrap_or(HeaderValue::from_static("none"))
}

/// The header's value where it is given once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let first = headers.get(name)?;
    (headers.get_all(name).iter().nth(1).is_none()).then_some(first)
}

fn is_plain(id: &HeaderValue) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    !id.is_empty() && id.len() <= LONGEST_ID && id.as_bytes().iter().all(is_plain)
}

/// `router`, whose requests and answers all have ids, which handlers find by [`of`].
pub fn with_ids(router: Router) -> Router {
    router.layer(middleware::from_fn(|mut request: Request, next: Next| async move {
        let ids = Ids::of(request.headers());
        request.extensions_mut().insert(ids.clone());
        let mut response: Response = next.run(request).await;
        ids.answer(response.headers_mut());
        response
    }))
}

/// The ids of a request that came through [`with_ids`].
pub fn of(extensions: &Extensions) -> Ids {
    extensions.get::<Ids>().cloned().unwrap_or_else(|| Ids::of(&HeaderMap::new()))
}
