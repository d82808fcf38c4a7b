//! Who answered, and which request it was: the headers of a model's answers, and the request's id.

use axum::Router;
use axum::extract::Request;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use tower::ServiceBuilder;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, RequestId, SetRequestIdLayer};

use crate::batch::Handle;

const MODEL: HeaderName = HeaderName::from_static("torchpod-model");
const VERSION: HeaderName = HeaderName::from_static("torchpod-model-version");
const DIGEST: HeaderName = HeaderName::from_static("torchpod-model-digest");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

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

/// `router`, whose requests and answers all have an id: the client's own, or a new one.
///
/// Not around probes: they would pay for an id that nobody looks for.
pub fn with_request_ids(router: Router) -> Router {
    let layers = ServiceBuilder::new()
        .map_request(without_odd_id)
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID));
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

/// The request's id, for the log.
pub fn id_of(extensions: &Extensions) -> Option<String> {
    let id = extensions.get::<RequestId>()?.header_value();
    Some(id.to_str().ok()?.to_owned())
}
