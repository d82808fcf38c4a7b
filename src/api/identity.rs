//! Who answered, and which request it was: the headers of a model's answers, the request's id, and its trace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::Response;
use opentelemetry::trace::{SpanId, TraceId, TraceState};
use uuid::Builder;

use crate::api::line::Line;
use crate::api::trace::{self, Caller};
use crate::batch::Handle;
use crate::telemetry::Telemetry;
use crate::telemetry::trace::{Place, Tracer};

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
    /// Our own span, in the caller's trace or one that begins here.
    place: Option<Place>,
    /// Whether a collector is to be told of it; `None` where there is no collector.
    kept: Option<bool>,
    /// Whether it has been, of a trace that begins here: other routes than predictions have no spans.
    told: Option<Arc<AtomicBool>>,
}

impl Ids {
    /// The client's own id, or a new one where it has none, or one that is too long, or that would be trouble in a log.
    ///
    /// A request that says where in a trace it belongs is answered with a span of ours in that trace, and its
    /// `tracestate` as it came. One that says nothing, or nothing valid, gets none unless a collector is told of it:
    /// whoever begins a trace must also collect it.
    pub fn of(headers: &HeaderMap, tracer: Option<&Tracer>) -> Self {
        let request = only(headers, &REQUEST_ID).filter(|id| is_plain(id)).cloned().unwrap_or_else(new_id);
        let caller = only(headers, &TRACEPARENT).and_then(|value| Caller::read(value.as_bytes()));
        let Some(caller) = caller else { return Self::root(request, tracer) };
        Self {
            request,
            caller: Some(caller),
            states: headers.get_all(TRACESTATE).iter().cloned().collect(),
            place: Some(Place::within(caller.trace)),
            kept: tracer.map(|tracer| tracer.keeps(caller.trace, Some(caller.is_kept()))),
            told: None,
        }
    }

    /// Of a request that nobody traces yet.
    fn root(request: HeaderValue, tracer: Option<&Tracer>) -> Self {
        let place = tracer.and_then(|tracer| Some(Place::root()).filter(|root| tracer.keeps(root.trace, None)));
        let (kept, told) = (tracer.map(|_| place.is_some()), place.map(|_| Arc::default()));
        Self { request, caller: None, states: Vec::new(), place, kept, told }
    }

    /// Those of one more request that came with the same headers: it has a span of its own.
    #[must_use]
    pub fn another(&self) -> Self {
        Self { place: self.place.map(|place| Place::within(place.trace)), ..self.clone() }
    }

    /// The request's own.
    pub fn request(&self) -> &str {
        self.request.to_str().unwrap_or_default() // It is plain.
    }

    pub fn trace(&self) -> Option<TraceId> {
        self.place.map(|place| place.trace)
    }

    /// Our own span, where a collector is to be told of it.
    pub fn kept(&self) -> Option<Place> {
        self.place.filter(|_| self.kept == Some(true))
    }

    /// The collector has been told.
    pub fn told(&self) {
        if let Some(told) = &self.told {
            told.store(true, Ordering::Relaxed);
        }
    }

    /// The caller's span.
    pub fn parent(&self) -> Option<SpanId> {
        self.caller.map(|caller| caller.span)
    }

    /// What others have noted of the trace; nothing where it is not valid.
    pub fn state(&self) -> TraceState {
        let states = self.states.iter().filter_map(|state| state.to_str().ok()).collect::<Vec<_>>().join(",");
        states.parse().unwrap_or_default()
    }

    /// Writes them into the headers of the answer.
    pub fn answer(self, headers: &mut HeaderMap) {
        headers.insert(REQUEST_ID, self.request);
        let told = match (self.place, self.caller) {
            (Some(place), Some(caller)) => caller.answer(place, self.kept),
            (Some(place), None) if self.told.is_some_and(|told| told.load(Ordering::Relaxed)) => trace::begin(place),
            _ => return,
        };
        // Digits and dashes are fit for a header.
        headers.extend(HeaderValue::from_str(&told).ok().map(|value| (TRACEPARENT, value)));
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
pub fn with_ids(router: Router, telemetry: Arc<Telemetry>) -> Router {
    router.layer(middleware::from_fn_with_state(telemetry, add_ids))
}

async fn add_ids(telemetry: State<Arc<Telemetry>>, mut request: Request, next: Next) -> Response {
    let ids = Ids::of(request.headers(), telemetry.tracer());
    request.extensions_mut().insert(ids.clone());
    let line = Line::of(&request);
    let mut response: Response = next.run(request).await;
    if let Some(line) = line {
        line.write(Some(&ids), &response);
    }
    ids.answer(response.headers_mut());
    response
}

/// The ids of a request that came through [`with_ids`].
pub fn of(extensions: &Extensions) -> Ids {
    extensions.get::<Ids>().cloned().unwrap_or_else(|| Ids::of(&HeaderMap::new(), None))
}
