//! `GET /`: one line that tells who answers, so that `curl … | sort | uniq -c` shows how traffic is split.

use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;

use super::State;
use super::openapi::SERVER;

/// One line that tells who answers.
#[utoipa::path(get, path = "/", tag = SERVER, operation_id = "who", responses((status = 200, body = String)))]
pub(super) async fn index(state: State) -> impl IntoResponse {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    let line = match (&state.label, state.models.default(), state.models.now().ids()) {
        (Some(label), ..) => label.clone(),
        (None, Some(model), _) => model.version.id(),
        (None, None, ids) if !ids.is_empty() => ids,
        _ => format!("torchpod ({})", state.health.phase()),
    };
    (headers, line + "\n")
}
