//! `/openapi.json`: the routes as an API document of version 3.1, put together from what stands beside their handlers.
//!
//! A handler is documented by `#[utoipa::path]` with its longest path; [`shorter`] says which others lead to it. What
//! all routes have in common, ids and what layers answer, is added here (`common`), errors come from the one table
//! (`refusal`), and parameters that several handlers take stand in `parameter`.

mod common;
mod parameter;
mod refusal;

use std::sync::LazyLock;

use axum::body::Bytes as Body;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::Value;
use utoipa::{OpenApi, ToSchema};

pub(super) use parameter::{Named, Wishes};
pub(super) use refusal::{Absent, Index, Inference, Load, NewFilter, Prediction, Unknown, Unload};

use common::Common;

use super::{console, docs, log, predict, probe, repository, v1, v2};

// What routes are grouped by.
pub(super) const PROBES: &str = "probes";
pub(super) const PREDICTION: &str = "prediction";
pub(super) const FIRST_PROTOCOL: &str = "KServe V1, TF Serving";
pub(super) const INFERENCE: &str = "Open Inference Protocol";
pub(super) const REPOSITORY: &str = "model repository";
pub(super) const SERVER: &str = "server";

/// A body that is no JSON.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "it only describes")]
pub(super) struct Bytes(Vec<u8>);

#[derive(OpenApi)]
#[openapi(
    info(title = "torchpod", description = "Serves PyTorch models over HTTP, and tells the kubelet the truth"),
    paths(
        predict::predict,
        v1::models,
        v1::model,
        v1::predict,
        v2::infer,
        v2::describe::server,
        v2::describe::live,
        v2::describe::ready,
        v2::describe::model,
        v2::describe::model_ready,
        v2::describe::config,
        v2::describe::statistics,
        v2::describe::all_statistics,
        repository::index,
        repository::load,
        repository::unload,
        probe::startup,
        probe::health,
        probe::ready,
        super::scrape,
        console::index,
        console::state::state,
        log::filter,
        log::change,
        document,
        docs::page,
    ),
    components(schemas(refusal::Own, refusal::Flat)),
    modifiers(&Common)
)]
struct Api;

/// The document, as it is served and as `/docs` shows it.
static DOCUMENT: LazyLock<(Value, Body)> = LazyLock::new(|| {
    // Texts, numbers and maps with keys of text always serialise.
    let value = serde_json::to_value(Api::openapi()).unwrap_or_default();
    let text = format!("{value:#}\n");
    (value, text.into())
});

pub(super) fn described() -> &'static Value {
    &DOCUMENT.0
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = SERVER, operation_id = "openapi",
    responses((status = 200, body = Object)))]
pub(super) async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.1.clone())
}

/// The other paths that lead where `path` does: to the highest version, and to the default model.
fn shorter(path: &str) -> Vec<String> {
    match path.strip_suffix("/{model}/{version}") {
        Some(route) => vec![format!("{route}/{{model}}"), route.to_owned()],
        None if path.contains("/versions/{version}") => vec![path.replace("/versions/{version}", "")],
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_a_model_is_documented() {
        assert_eq!(shorter("/predict/{model}/{version}"), ["/predict/{model}", "/predict"]);
        assert_eq!(shorter("/v2/models/{model}/versions/{version}/infer"), ["/v2/models/{model}/infer"]);
        assert_eq!(shorter("/v1/models/{model}/versions/{version}:predict"), ["/v1/models/{model}:predict"]);
        assert_eq!(shorter("/v2/health/live"), [""; 0]);
    }
}
