//! What there is to know before an inference: the server, whether it is ready, its models, how they are run, and what they
//! have done.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use crate::api::describe::{BACKEND, Config, ConfigTensor, EXTENSIONS, PLATFORM, Signature, Tensor};
use crate::batch::Handle;
use crate::health::Probe;
use crate::http::State;
use crate::http::error::{self, Flat};
use crate::http::target::{self, Path};
use crate::model::spec::Versions;
use crate::telemetry::statistics::Timing;

type Answer = Result<Response, Flat>;

pub(super) async fn server() -> Response {
    ok(&json!({ "name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS }))
}

pub(super) async fn live(state: State) -> Response {
    let live = state.health.ask(Probe::Liveness).0.pass;
    verdict(live, &json!({ "live": live }))
}

pub(super) async fn ready(state: State) -> Response {
    let ready = state.health.ask(Probe::Readiness).0.pass;
    verdict(ready, &json!({ "ready": ready }))
}

/// Dependencies are the server's affair: a model is ready where it serves and the server is healthy.
pub(super) async fn model_ready(state: State, path: Path) -> Answer {
    let model = target::resolve(&state, path)?;
    let ready = state.health.ask(Probe::Liveness).0.pass;
    Ok(verdict(ready, &json!({ "name": model.version.name, "ready": ready })))
}

pub(super) async fn model(state: State, path: Path) -> Answer {
    let model = target::resolve(&state, path)?;
    let name = &model.version.name;
    let table = state.models.now();
    let versions: Vec<&str> = table.versions(name).iter().map(|handle| handle.version.version.as_str()).collect();
    let Signature { inputs, outputs } = Signature::of(&model.version);
    Ok(ok(&json!({
        "name": name,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": inputs.iter().map(tensor).collect::<Vec<_>>(),
        "outputs": outputs.iter().map(tensor).collect::<Vec<_>>(),
    })))
}

fn tensor(tensor: &Tensor) -> Value {
    json!({ "name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape })
}

pub(super) async fn config(state: State, path: Path) -> Answer {
    let model = target::resolve(&state, path)?;
    let (name, config) = (&model.version.name, Config::of(&model.version));
    let kind = if config.gpu.is_some() { "KIND_GPU" } else { "KIND_CPU" };
    let gpus: Vec<usize> = config.gpu.into_iter().collect();
    let versions = match &model.version.spec.versions {
        Versions::Latest => json!({ "latest": { "num_versions": 1 } }),
        Versions::All => json!({ "all": {} }),
        Versions::Only { numbers, .. } => json!({ "specific": { "versions": numbers } }),
    };
    let mut answer = json!({
        "name": name,
        "platform": PLATFORM,
        "backend": BACKEND,
        "runtime": "",
        "version_policy": versions,
        "max_batch_size": config.max_batch_size,
        "input": config.inputs.iter().map(config_tensor).collect::<Vec<_>>(),
        "output": config.outputs.iter().map(config_tensor).collect::<Vec<_>>(),
        "instance_group": [{ "name": name, "kind": kind, "count": config.instances, "gpus": gpus }],
        "default_model_filename": "model.pt",
    });
    if config.max_batch_size > 0 {
        answer["dynamic_batching"] = json!({ "max_queue_delay_microseconds": config.max_queue_delay_micros });
    }
    Ok(ok(&answer))
}

fn config_tensor(tensor: &ConfigTensor) -> Value {
    json!({ "name": tensor.name, "data_type": tensor.data_type, "dims": tensor.dims })
}

pub(super) async fn statistics(state: State, path: Path) -> Answer {
    let model = target::resolve(&state, path)?;
    Ok(ok(&json!({ "model_stats": [sums(&model)] })))
}

pub(super) async fn all_statistics(state: State) -> Response {
    let table = state.models.now();
    ok(&json!({ "model_stats": table.all().map(sums).collect::<Vec<_>>() }))
}

/// Computing is counted by the batch, everything else by the request. Copies in and out are part of computing.
fn sums(model: &Handle) -> Value {
    let sums = model.metrics.statistics();
    let none = timing(Timing::default());
    let by_rows: Vec<Value> = sums
        .by_rows
        .iter()
        .map(|(rows, took)| {
            json!({
                "batch_size": rows,
                "compute_input": none,
                "compute_infer": timing(*took),
                "compute_output": none,
            })
        })
        .collect();
    json!({
        "name": model.version.name,
        "version": model.version.version,
        "last_inference": sums.last_inference_millis,
        "inference_count": sums.rows,
        "execution_count": sums.compute.count,
        "inference_stats": {
            "success": timing(sums.success),
            "fail": timing(sums.fail),
            "queue": timing(sums.queue),
            "compute_input": none,
            "compute_infer": timing(sums.compute),
            "compute_output": none,
            "cache_hit": none,
            "cache_miss": none,
        },
        "batch_stats": by_rows,
        "memory_usage": [],
    })
}

fn timing(timing: Timing) -> Value {
    json!({ "count": timing.count, "ns": timing.nanos })
}

fn ok(body: &Value) -> Response {
    error::json(StatusCode::OK, body)
}

fn verdict(pass: bool, body: &Value) -> Response {
    error::json(if pass { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body)
}
