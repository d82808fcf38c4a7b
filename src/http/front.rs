//! What every request to an HTTP listener passes, on its way in and out: its ids, the limit on heads, the guard against
//! panics, and the farewell to its connection. Predictions go straight to their handlers, all else through the router.
//!
//! One service rather than a stack of layers around each route: a layer is a clone, a box or two and a future to move, and
//! eight of them took more time than a small model's forward.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, Version, header, request};
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;

use super::connection::Answers;
use super::encoding::{self, Accepted};
use super::error::{self, Error, Kind};
use super::target::{Protocol, Target};
use super::{MAX_HEAD, no_method, predict, probe, v1, v2};
use crate::api::in_flight::{self, Cut};
use crate::api::line::Line;
use crate::api::{Ids, Shared};
use crate::lifecycle::Phase;

/// A listener's routes, and what goes around them. Clones share everything.
#[derive(Clone)]
pub struct Front {
    shared: Arc<Shared>,
    routes: Router,
    /// Whether predictions are made here.
    predicts: bool,
}

/// A prediction that is asked for.
pub(super) struct Asked<'a> {
    pub(super) target: Target<'a>,
    pub(super) headers: &'a HeaderMap,
    pub(super) ids: &'a Ids,
    pub(super) started: Instant,
}

impl Front {
    pub(super) fn new(shared: Arc<Shared>, routes: Router<Arc<Shared>>, predicts: bool) -> Self {
        let routes = routes.method_not_allowed_fallback(no_method).with_state(shared.clone());
        Self { shared, routes, predicts }
    }

    async fn handled(&self, request: Request, cut: Cut, ids: Option<&Ids>) -> Response {
        let (parts, body) = request.into_parts();
        if let Err(error) = check_head(&parts) {
            return error.into_response();
        }
        let path = parts.uri.path();
        match Target::of(path).filter(|_| self.predicts).zip(ids) {
            Some(((protocol, target), ids)) if parts.method == Method::POST => {
                let asked = Asked { target, headers: &parts.headers, ids, started: Instant::now() };
                self.predicted(protocol, asked, body, cut).await
            }
            Some(((protocol, _), _)) if !protocol.shares_its_path_with(&parts.method) => {
                let error = Error::no_method(&parts.method, path).into_response();
                ([(header::ALLOW, protocol.allowed())], error).into_response()
            }
            _ => self.routes.answer(Request::from_parts(parts, body), cut).await,
        }
    }

    async fn predicted(&self, protocol: Protocol, asked: Asked<'_>, body: Body, cut: Cut) -> Response {
        let (shared, in_flight) = (&*self.shared, self.shared.ledger.accept());
        let accepted = Accepted::of(asked.headers);
        let response = match protocol {
            Protocol::Predict => predict::predict(shared, asked, body).await.into_response(),
            Protocol::V1 => v1::predict(shared, asked, body).await.into_response(),
            Protocol::V2 => v2::infer(shared, asked, body).await.into_response(),
        };
        in_flight::counted(in_flight, cut, encoding::encoded(accepted, response).await)
    }
}

impl Answers for Front {
    async fn answer(&self, request: Request, cut: Cut) -> Response {
        let version = request.version();
        // Nobody looks for the id of a probe.
        let ids =
            (!probe::is_one(request.uri().path())).then(|| Ids::of(request.headers(), self.shared.telemetry.tracer()));
        let line = Line::of(&request);
        // In one expression: what is awaited by a name is kept twice in the state of the whole.
        let answer = AssertUnwindSafe(self.handled(request, cut, ids.as_ref())).catch_unwind().await;
        let mut response = answer.unwrap_or_else(|panic| error::panicked(panic, ids.as_ref()));
        if let Some(line) = line {
            line.write(ids.as_ref(), &response);
        }
        // While draining, HTTP/1 clients are told to come back on another connection, that is, to another server.
        if version <= Version::HTTP_11 && matches!(self.shared.health.phase(), Phase::Draining { .. }) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(ids) = ids {
            ids.answer(response.headers_mut());
        }
        response
    }
}

/// Refuses heads above [`MAX_HEAD`]; hyper itself refuses those far above it, without a body.
fn check_head(parts: &request::Parts) -> Result<(), Error> {
    // A header line is name, colon, space, value, CR and LF.
    let lines: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let bytes = lines + parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if bytes <= MAX_HEAD {
        return Ok(());
    }
    let message = format!("the request head has {bytes} bytes, expected at most {MAX_HEAD}");
    Err(Error::new(Kind::HeadTooLarge, message))
}
