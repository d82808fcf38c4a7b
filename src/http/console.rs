//! `GET /`: for a browser the console, for everybody else one line that tells who answers, so that
//! `curl … | sort | uniq -c` shows how traffic is split.
//!
//! `accept` tells one from the other, `page` puts the console together, and `state` is what it asks for again and again.

mod accept;
mod page;
pub(super) mod state;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::State;
use super::openapi::SERVER;
use crate::api::Shared;

/// What the console asks for, where there is one.
pub(super) fn routes(shared: &Shared) -> Router<Arc<Shared>> {
    let router = Router::new();
    if shared.console { router.route("/console/state", get(state::state)) } else { router }
}

/// The console for a browser; for everybody else, one line that tells who answers.
#[utoipa::path(get, path = "/", tag = SERVER, operation_id = "who",
    responses((status = 200, content((String = "text/plain"), (String = "text/html")))))]
pub(super) async fn index(state: State, headers: HeaderMap) -> Response {
    let vary = [(header::VARY, "Accept")];
    if state.console && accept::prefers_html(&headers) {
        return (vary, page::answer()).into_response();
    }
    (vary, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], who(&state) + "\n").into_response()
}

/// Who answers: a label, or the models that a request without a name may mean.
fn who(shared: &Shared) -> String {
    match (&shared.label, shared.models.default(), shared.models.now().ids()) {
        (Some(label), ..) => label.clone(),
        (None, Some(model), _) => model.version.id(),
        (None, None, ids) if !ids.is_empty() => ids,
        _ => format!("torchpod ({})", shared.health.phase()),
    }
}
