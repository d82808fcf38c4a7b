//! `/v2`: the Open Inference Protocol over REST, with Triton's extensions. What it says of models comes from
//! `api::describe`; `request` reads an inference request, `answer` writes its answer.

mod answer;
pub(super) mod describe;
pub(crate) mod request;
mod schema;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};

use super::error::{Error, Flat};
use super::openapi::{Bytes, INFERENCE, Inference, Named, Wishes};
use super::target::{self, Path};
use super::{State, body, layer};
use crate::api::{self, Shared, Terms, identity, in_flight};
use crate::batch::Handle;
use schema::{InferAnswer, InferRequest};

pub(super) fn routes(shared: &Arc<Shared>) -> Router<Arc<Shared>> {
    let count = middleware::from_fn_with_state(shared.clone(), in_flight::count);
    let encode = middleware::from_fn(layer::encode);
    let mut router = Router::new()
        .route("/v2", get(describe::server))
        .route("/v2/health/live", get(describe::live))
        .route("/v2/health/ready", get(describe::ready))
        .route("/v2/models/stats", get(describe::all_statistics).layer(encode.clone()));
    for model in ["/v2/models/{model}", "/v2/models/{model}/versions/{version}"] {
        router = router
            .route(model, get(describe::model).layer(encode.clone()))
            .route(&format!("{model}/ready"), get(describe::model_ready))
            .route(&format!("{model}/config"), get(describe::config).layer(encode.clone()))
            .route(&format!("{model}/stats"), get(describe::statistics).layer(encode.clone()))
            .route(&format!("{model}/infer"), post(infer).layer(encode.clone()).layer(count.clone()));
    }
    router
}

/// Outputs for inputs.
///
/// With `Inference-Header-Content-Length`, as many bytes of the body are JSON, and tensors' own bytes follow; answers say
/// so likewise.
#[utoipa::path(post, path = "/v2/models/{model}/versions/{version}/infer", tag = INFERENCE, operation_id = "infer",
    params(Named, Wishes, ("Inference-Header-Content-Length" = Option<usize>, Header,
        description = "How many bytes of the body are JSON, where tensors' own bytes follow")),
    request_body(content((InferRequest = "application/json"), (Bytes = "application/octet-stream"))),
    responses(
        (status = 200, headers(
            ("torchpod-model" = String, description = "Who answered"),
            ("torchpod-model-version" = String), ("torchpod-model-digest" = String),
            ("Inference-Header-Content-Length" = usize, description = "How many bytes are JSON, where others follow")), content((InferAnswer = "application/json"), (Bytes = "application/octet-stream"))),
        Inference,
    ))]
pub(super) async fn infer(state: State, path: Path, request: Request) -> Result<Response, Flat> {
    let started = Instant::now();
    let model = target::resolve(&state, path)?;
    let ids = identity::of(request.extensions());
    let result = api::counted(&model, started, &ids, compute(&state, &model, request, started)).await;
    Ok(identity::stamp(&model, result.map_err(Flat).into_response()))
}

async fn compute(state: &State, model: &Handle, request: Request, started: Instant) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let terms = Terms::of(&parts.headers, started, state.request_timeout)?;
    let header = request::header_length(&parts.headers)?;
    if let Err(error) = terms.admit(model) {
        body::refuse(&parts.headers, body).await;
        return Err(error);
    }
    let body = body::read(&parts.headers, body, terms.deadline, &state.memory).await?;
    let (version, pool) = (model.version.clone(), state.memory.clone());
    let read = api::heavy(body.len(), move || request::read(&version.spec, &body, header, &pool)).await?;
    let (inputs, asked) = read?;
    asked.check(&model.version)?;
    let terms = asked.parameters.apply(terms, started);
    let outputs = api::compute(model, inputs.tensors, inputs.rows, terms).await?;
    let version = model.version.clone();
    api::heavy(api::size(&outputs), move || answer::write(&version, &outputs, &asked)).await?
}
