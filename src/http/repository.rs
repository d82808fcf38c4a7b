//! `/v2/repository`: Triton's model repository extension. The index may be read by anyone; whoever loads or unloads must
//! come by the probe listener, or bring the token.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Router, middleware};
use http_body_util::{BodyExt as _, Limited};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Shared, State, error, layer};
use crate::batch::control::{Entry, Refused};

/// The largest body, in bytes, and how long it may take to come.
const BODY: (usize, Duration) = (64 << 10, Duration::from_secs(10));

/// What the protocol's requests may say.
#[derive(Default, Deserialize)]
struct Asked {
    /// Of the index: only what serves.
    #[serde(default)]
    ready: bool,
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// A line of the index, in the protocol's words.
#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    version: &'a str,
    state: &'static str,
    reason: &'a str,
}

/// Why a request was not carried out: `{"error":"…"}`.
struct Failure(StatusCode, String);

/// Whom a listener lets order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Whoever comes by it.
    Everyone,
    /// Whoever brings the token.
    Token,
}

pub(super) fn routes(shared: &Arc<Shared>, trust: Trust) -> Router<Arc<Shared>> {
    let count = middleware::from_fn_with_state(shared.clone(), layer::count);
    let load = move |state: State, name: Name, request: Request| async move {
        load(&state, trust, name, request).await.map(done)
    };
    let unload = move |state: State, name: Name, request: Request| async move {
        unload(&state, trust, name, request).await.map(done)
    };
    Router::new()
        .route("/v2/repository/index", post(index))
        .route("/v2/repository/models/{model}/load", post(load))
        .route("/v2/repository/models/{model}/unload", post(unload))
        .route_layer(count)
}

type Name = Result<Path<String>, PathRejection>;

async fn index(state: State, request: Request) -> Result<Response, Failure> {
    let asked = read(request.into_body()).await?;
    let entries = state.control.index().await;
    let wanted = entries.iter().filter(|entry| !asked.ready || entry.is_ready());
    Ok(error::json(StatusCode::OK, &wanted.map(line).collect::<Vec<_>>()))
}

fn line(entry: &Entry) -> Line<'_> {
    Line { name: &entry.name, version: &entry.version, state: entry.state.name(), reason: &entry.reason }
}

async fn load(state: &Shared, trust: Trust, name: Name, request: Request) -> Result<(), Failure> {
    authorise(state, trust, request.headers())?;
    let asked = read(request.into_body()).await?;
    if let Some(parameter) = asked.parameters.keys().next() {
        let text = format!("parameter {parameter:?}: expected none, since what is in the model's folder is loaded");
        return Err(Failure(StatusCode::BAD_REQUEST, text));
    }
    state.control.load(&decoded(name)?).await.map_err(|refused| failure(state, &refused))
}

async fn unload(state: &Shared, trust: Trust, name: Name, request: Request) -> Result<(), Failure> {
    authorise(state, trust, request.headers())?;
    // `unload_dependents` is what Triton's clients send; no model depends on another here.
    read(request.into_body()).await?;
    state.control.unload(&decoded(name)?).map_err(|refused| failure(state, &refused))
}

/// What the protocol answers where there is nothing to say.
fn done((): ()) -> Response {
    error::json(StatusCode::OK, &Map::new())
}

fn decoded(name: Name) -> Result<String, Failure> {
    name.map(|Path(name)| name).map_err(|_| Failure(StatusCode::NOT_FOUND, "the model's name is no UTF-8".to_owned()))
}

/// Whether the request may order something.
fn authorise(state: &Shared, trust: Trust, headers: &HeaderMap) -> Result<(), Failure> {
    if trust == Trust::Everyone {
        return Ok(());
    }
    match &state.control_token {
        Some(token) if bears(headers, token) => Ok(()),
        Some(_) => {
            Err(Failure(StatusCode::UNAUTHORIZED, "expected Authorization: Bearer and the control token".to_owned()))
        }
        None if !state.control.is_explicit() => Err(failure(state, &Refused::Off)),
        None => {
            let text = "models are loaded and unloaded on --probe-listen, or here where --control-token is set";
            Err(Failure(StatusCode::FORBIDDEN, text.to_owned()))
        }
    }
}

/// Whether the client has the token. How long this takes tells nothing about it.
fn bears(headers: &HeaderMap, token: &SecretString) -> bool {
    let given = headers.get(header::AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
    let (scheme, given) = given.split_at_checked(7).unwrap_or_default();
    // Digests, since their lengths are equal whatever was given.
    let (given, token) = (Sha256::digest(given), Sha256::digest(token.expose_secret()));
    scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(given.as_slice().ct_eq(token.as_slice()))
}

/// The body: nothing, or an object.
async fn read(body: Body) -> Result<Asked, Failure> {
    let (most, time) = BODY;
    let collected = tokio::time::timeout(time, Limited::new(body, most).collect()).await;
    let collected =
        collected.map_err(|_| Failure(StatusCode::REQUEST_TIMEOUT, "the body did not arrive".to_owned()))?;
    let bytes = collected.map_err(|error| Failure(StatusCode::BAD_REQUEST, format!("the body: {error}")))?.to_bytes();
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Asked::default());
    }
    // By way of an object: serde would take an array for a struct, too.
    let asked = serde_json::from_slice(&bytes).and_then(|object| serde_json::from_value(Value::Object(object)));
    let expected = |error| format!("the body: {error}; expected none, or a JSON object such as {{}}");
    asked.map_err(|error| Failure(StatusCode::BAD_REQUEST, expected(error)))
}

/// The table from what was refused to its status.
fn failure(state: &Shared, refused: &Refused) -> Failure {
    let status = match refused {
        Refused::Off => StatusCode::FORBIDDEN,
        Refused::Unknown(_) => StatusCode::NOT_FOUND,
        Refused::Folder(_) => StatusCode::BAD_REQUEST,
        Refused::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        Refused::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
        Refused::Overtaken(_) => StatusCode::CONFLICT,
        Refused::Busy | Refused::Closed(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let text = match refused {
        Refused::Unknown(name) => format!("there is no model {:?}; {}", error::shown(name), super::who_serves(state)),
        refused => refused.to_string(),
    };
    Failure(status, text)
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: &'a str,
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Self(status, text) = self;
        let mut response = error::json(status, &Envelope { error: &text });
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
