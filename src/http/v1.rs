//! `/v1`: version 1 of `KServe`'s protocol, which is `TensorFlow` Serving's. `request` reads rows or columns, and `answer`
//! gives back what came: a prediction for each row, or outputs as columns.

mod answer;
mod request;
mod rows;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Router, middleware};
use serde_json::{Value, json};

use super::error::{self, Error, Flat};
use super::target::{self, Path};
use super::{State, body, layer};
use crate::api::{self, Shared, Terms, identity};
use crate::batch::Handle;
use crate::health::Probe;

pub(super) fn routes(shared: &Arc<Shared>) -> Router<Arc<Shared>> {
    let count = middleware::from_fn_with_state(shared.clone(), layer::count);
    // A path ends with what is asked of the model, as in `digits:predict`, which is no part of its own for the router.
    let model = || get(model).merge(axum::routing::post(predict).layer(count.clone()));
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", model())
        .route("/v1/models/{model}/versions/{version}", model())
}

/// The names of those that serve.
async fn models(state: State) -> Response {
    let names: Vec<String> = state.models.now().names().map(str::to_owned).collect();
    error::json(StatusCode::OK, &json!({ "models": names }))
}

/// In the words of both: `KServe`'s `ready`, and `TensorFlow` Serving's list of versions, of all where none is named.
async fn model(state: State, path: Path) -> Result<Response, Flat> {
    let one = path.as_ref().is_ok_and(|path| path.iter().any(|(name, _)| name == "version"));
    let model = target::resolve(&state, path)?;
    let name = &model.version.name;
    let table = state.models.now();
    let versions: Vec<Value> = match table.versions(name) {
        all if !one => all.iter().map(available).collect(),
        _ => vec![available(&model)],
    };
    // As for `/v2`: dependencies are the server's affair, a model is ready where it serves and the server is healthy.
    let ready = state.health.ask(Probe::Liveness).0.pass;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(error::json(status, &json!({ "name": name, "ready": ready, "model_version_status": versions })))
}

fn available(model: &Handle) -> Value {
    json!({
        "version": model.version.version,
        "state": "AVAILABLE",
        "status": { "error_code": "OK", "error_message": "" },
    })
}

async fn predict(state: State, path: Path, request: Request) -> Result<Response, Flat> {
    let started = Instant::now();
    let model = asked(&state, path)?;
    let ids = identity::of(request.extensions());
    let result = api::counted(&model, started, &ids, compute(&state, &model, request, started)).await;
    Ok(identity::stamp(&model, result.map_err(Flat).into_response()))
}

/// The model of a path that ends with `:predict`.
fn asked(state: &Shared, path: Path) -> Result<Handle, Error> {
    let path = path.map_err(|_| Error::not_found("the model's name is no UTF-8"))?;
    let mut parts: Vec<&str> = path.iter().map(|(_, value)| value).collect();
    if let Some(last) = parts.last_mut() {
        let target = last.strip_suffix(":predict");
        *last = target.ok_or_else(|| {
            Error::not_found(format!("{:?}: expected :predict at the end of the path", error::shown(last)))
                .hint("as in POST /v1/models/MODEL:predict")
        })?;
    }
    state.resolve(parts.first().copied(), parts.get(1).copied())
}

async fn compute(state: &State, model: &Handle, request: Request, started: Instant) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let terms = Terms::of(&parts.headers, started, state.request_timeout)?;
    if let Err(error) = terms.admit(model) {
        body::refuse(&parts.headers, body).await;
        return Err(error);
    }
    let body = body::read(&parts.headers, body, terms.deadline, &state.memory).await?;
    let (version, pool) = (model.version.clone(), state.memory.clone());
    let read = api::heavy(body.len(), move || request::read(&version.spec, &body, &pool)).await?;
    let request::Inputs { tensors, rows, form } = read?;
    let outputs = api::compute(model, tensors, rows, terms).await?;
    api::heavy(api::size(&outputs), move || answer::write(&outputs, rows, form)).await?
}
