//! `/startup`, `/health` and `/ready`: the verdict, and enough to see why.

use axum::http::{StatusCode, Uri};
use axum::response::Response;
use serde::Serialize;

use super::{Shared, error};
use crate::batch::Models;
use crate::health::Probe;
use crate::lifecycle::Phase;

/// The lesson's `{"status": …}`, then detail. Below 1 KiB unless verbose.
#[derive(Serialize)]
struct Body<'a> {
    status: &'static str,
    phase: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'a str>,
    /// How much of the stage is done, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verbose: Option<Verbose<'a>>,
}

#[derive(Serialize)]
struct Verbose<'a> {
    /// How long the phase has lasted.
    seconds: f64,
    /// What led to the phase.
    transition: &'a str,
    models: Vec<Model<'a>>,
    in_flight: u64,
}

#[derive(Serialize)]
struct Model<'a> {
    name: &'a str,
    version: &'a str,
    device: String,
}

pub(super) fn answer(shared: &Shared, probe: Probe, uri: &Uri) -> Response {
    let (verdict, snapshot) = shared.health.ask(probe);
    let on_the_way_up = matches!(snapshot.phase, Phase::Loading | Phase::Warming) && !snapshot.stage.is_empty();
    let asked_for_more = uri.query().is_some_and(|query| query.split('&').any(|key| key.starts_with("verbose")));
    let body = Body {
        status: verdict.status,
        phase: snapshot.phase.name(),
        reason: verdict.reason,
        stage: on_the_way_up.then_some(&*snapshot.stage),
        progress: on_the_way_up.then_some(snapshot.progress),
        verbose: asked_for_more.then(|| Verbose {
            seconds: snapshot.age().as_secs_f64(),
            transition: &snapshot.reason,
            models: models(shared),
            in_flight: shared.ledger.in_flight(),
        }),
    };
    error::json(if verdict.pass { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &body)
}

fn models(shared: &Shared) -> Vec<Model<'_>> {
    let handles = shared.models.get().map(Models::all).unwrap_or_default();
    handles
        .iter()
        .map(|handle| &handle.version)
        .map(|version| Model { name: &version.name, version: &version.version, device: version.device.to_string() })
        .collect()
}
