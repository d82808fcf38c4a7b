//! What there is to know before an inference: the server, whether it is ready, its models, how they are run, and what they
//! have done.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use super::schema::{
    self, AllStatistics, BatchStatistics, ConfigPort, DynamicBatching, InstanceGroup, Live, Model, ModelReady, Ready,
    Server, Statistics, Tensor,
};
use crate::api::describe::{BACKEND, Config, EXTENSIONS, PLATFORM, Signature};
use crate::batch::Handle;
use crate::health::Probe;
use crate::http::State;
use crate::http::error::{self, Flat};
use crate::http::openapi::{INFERENCE, Named, Unknown};
use crate::http::target::{self, Path};
use crate::model::spec::Versions;

type Answer = Result<Response, Flat>;

/// The server's name, version and extensions.
#[utoipa::path(get, path = "/v2", tag = INFERENCE, operation_id = "server_metadata",
    responses((status = 200, body = Server)))]
pub(super) async fn server() -> Response {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    ok(&Server { name, version, extensions: &EXTENSIONS })
}

/// Whether the process is worth keeping, as `/health` says it.
#[utoipa::path(get, path = "/v2/health/live", tag = INFERENCE, operation_id = "server_live",
    responses((status = 200, body = Live), (status = 503, body = Live)))]
pub(super) async fn live(state: State) -> Response {
    let live = state.health.ask(Probe::Liveness).0.pass;
    verdict(live, &Live { live })
}

/// Whether it serves, as `/ready` says it.
#[utoipa::path(get, path = "/v2/health/ready", tag = INFERENCE, operation_id = "server_ready",
    responses((status = 200, body = Ready), (status = 503, body = Ready)))]
pub(super) async fn ready(state: State) -> Response {
    let ready = state.health.ask(Probe::Readiness).0.pass;
    verdict(ready, &Ready { ready })
}

/// Whether a model serves.
///
/// Dependencies are the server's affair: a model is ready where it serves and the server is healthy.
#[utoipa::path(get, path = "/v2/models/{model}/versions/{version}/ready", tag = INFERENCE,
    operation_id = "model_ready", params(Named),
    responses((status = 200, body = ModelReady), (status = 503, body = ModelReady), Unknown))]
pub(super) async fn model_ready(state: State, path: Path) -> Answer {
    let model = target::resolve(&state, path)?;
    let ready = state.health.passes(Probe::Liveness);
    Ok(verdict(ready, &ModelReady { name: model.version.name.clone(), ready }))
}

/// A model's inputs, outputs and versions.
#[utoipa::path(get, path = "/v2/models/{model}/versions/{version}", tag = INFERENCE,
    operation_id = "model_metadata", params(Named), responses((status = 200, body = Model), Unknown))]
pub(super) async fn model(state: State, path: Path) -> Answer {
    let model = target::resolve(&state, path)?;
    let name = model.version.name.clone();
    let versions = state.models.now().versions(&name).iter().map(|handle| handle.version.version.clone()).collect();
    let Signature { inputs, outputs } = Signature::of(&model.version);
    let [inputs, outputs] = [inputs, outputs].map(|tensors| tensors.into_iter().map(Tensor::from).collect());
    Ok(ok(&Model { name, versions, platform: PLATFORM, inputs, outputs }))
}

/// How a model is run, in Triton's words.
#[utoipa::path(get, path = "/v2/models/{model}/versions/{version}/config", tag = INFERENCE,
    operation_id = "model_config", params(Named), responses((status = 200, body = schema::Config), Unknown))]
pub(super) async fn config(state: State, path: Path) -> Answer {
    let model = target::resolve(&state, path)?;
    let (name, config) = (model.version.name.clone(), Config::of(&model.version));
    let kind = if config.gpu.is_some() { "KIND_GPU" } else { "KIND_CPU" };
    let gpus = config.gpu.into_iter().collect();
    let (policy, what) = match &model.version.spec.versions {
        Versions::Latest => ("latest", json!({ "num_versions": 1 })),
        Versions::All => ("all", json!({})),
        Versions::Only { numbers, .. } => ("specific", json!({ "versions": numbers })),
    };
    let delay = DynamicBatching { max_queue_delay_microseconds: config.max_queue_delay_micros };
    let [input, output] =
        [config.inputs, config.outputs].map(|tensors| tensors.into_iter().map(ConfigPort::from).collect());
    Ok(ok(&schema::Config {
        platform: PLATFORM,
        backend: BACKEND,
        runtime: "",
        version_policy: std::iter::once((policy.to_owned(), what)).collect(),
        max_batch_size: config.max_batch_size,
        input,
        output,
        instance_group: [InstanceGroup { name: name.clone(), kind, count: config.instances, gpus }],
        default_model_filename: "model.pt",
        dynamic_batching: Some(delay).filter(|_| config.max_batch_size > 0),
        name,
    }))
}

/// What a model has done.
#[utoipa::path(get, path = "/v2/models/{model}/versions/{version}/stats", tag = INFERENCE,
    operation_id = "model_statistics", params(Named), responses((status = 200, body = AllStatistics), Unknown))]
pub(super) async fn statistics(state: State, path: Path) -> Answer {
    let model = target::resolve(&state, path)?;
    Ok(ok(&AllStatistics { model_stats: vec![sums(&model)] }))
}

/// What all models have done.
#[utoipa::path(get, path = "/v2/models/stats", tag = INFERENCE, operation_id = "all_statistics",
    responses((status = 200, body = AllStatistics)))]
pub(super) async fn all_statistics(state: State) -> Response {
    ok(&AllStatistics { model_stats: state.models.now().all().map(sums).collect() })
}

fn sums(model: &Handle) -> Statistics {
    let sums = model.metrics.statistics();
    Statistics {
        name: model.version.name.clone(),
        version: model.version.version.clone(),
        last_inference: sums.last_inference_millis,
        inference_count: sums.rows,
        execution_count: sums.compute.count,
        inference_stats: (&sums).into(),
        batch_stats: sums.by_rows.iter().map(|(rows, took)| BatchStatistics::of(*rows, *took)).collect(),
        memory_usage: [],
    }
}

fn ok(body: &impl Serialize) -> Response {
    error::json(StatusCode::OK, body)
}

fn verdict(pass: bool, body: &impl Serialize) -> Response {
    error::json(if pass { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
}
