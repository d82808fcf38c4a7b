//! `/v2`: the Open Inference Protocol over REST, with Triton's extensions. What it says of models comes from
//! `api::describe`; `request` reads an inference request, `answer` writes its answer.

mod answer;
pub(super) mod describe;
pub(crate) mod request;
mod schema;

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Router, middleware};

use super::error::{Error, Flat};
use super::front::Asked;
use super::openapi::{Bytes, INFERENCE, Inference, Named, Wishes};
use super::{body, layer};
use crate::api::{self, Count, Protocol, Shared, Terms, identity};
use crate::batch::Handle;
use schema::{InferAnswer, InferRequest};

/// But for the predictions, which `front` hands to [`infer`].
pub(super) fn routes() -> Router<Arc<Shared>> {
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
            .route(&format!("{model}/stats"), get(describe::statistics).layer(encode.clone()));
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
pub(super) async fn infer(shared: &Shared, asked: Asked<'_>, body: Body) -> Result<Response, Flat> {
    let model = asked.target.resolve(shared)?;
    let mut count = Count::new(shared, &model, Protocol::V2, asked.ids, asked.started);
    let result = compute(shared, &model, &asked, body, &mut count).await;
    count.end(&result);
    Ok(identity::stamp(&model, result.map_err(Flat).into_response()))
}

async fn compute(
    shared: &Shared,
    model: &Handle,
    asked: &Asked<'_>,
    body: Body,
    count: &mut Count<'_>,
) -> Result<Response, Error> {
    let terms = Terms::of(asked.headers, asked.started, shared.request_timeout)?;
    let header = request::header_length(asked.headers)?;
    let body = body::of_prediction(shared, model, asked, terms, body, count).await?;
    let (version, pool) = (model.version.clone(), shared.memory.clone());
    let read = api::heavy(body.len(), move || request::read(&version.spec, &body, header, &pool)).await?;
    let (inputs, wanted) = read?;
    wanted.check(&model.version)?;
    let terms = wanted.parameters.apply(terms, asked.started);
    let outputs = api::compute(model, inputs.tensors, inputs.rows, terms, count).await?;
    let version = model.version.clone();
    api::heavy(api::size(&outputs), move || answer::write(&version, &outputs, &wanted)).await?
}
