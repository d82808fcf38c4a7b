//! The way from `starting` to `serving`, on a thread of its own: find, open, read, prove. The thread lives on, and does
//! the same for what is ordered while the server serves.

mod candidate;
mod order;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use super::Exit;
use crate::batch::Models;
use crate::batch::control::{Control, Order};
use crate::chaos::{Chaos, Rehearsal};
use crate::config::Config;
use crate::engine::{DeviceChoice, loader};
use crate::lifecycle::pulse::Pulses;
use crate::lifecycle::{Event, Tx};
use crate::model::repository::{self, Found, Given};
use crate::telemetry::Telemetry;
use candidate::Workshop;
pub(super) use candidate::{device, threads};

/// Resolves when loading has succeeded or failed for good.
pub(super) type Loader = std::pin::Pin<Box<dyn Future<Output = Result<(), Exit>> + Send>>;

/// What the loader needs to know of the configuration.
pub(super) struct Plan {
    models: PathBuf,
    given: Given,
    default_model: Option<String>,
    device: DeviceChoice,
    engine: loader::Options,
    max_queue: usize,
    load_timeout: Duration,
    chaos: Chaos,
}

/// Which parts loading fills or tells.
pub(super) struct Parts {
    pub(super) lifecycle: Tx,
    pub(super) pulses: Pulses,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) models: Arc<Models>,
    pub(super) control: Control,
}

impl Plan {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            models: config.models.clone(),
            given: config.given.clone(),
            default_model: config.default_model.clone(),
            device: config.device,
            engine: config.engine.clone(),
            max_queue: config.max_queue,
            load_timeout: config.load_timeout,
            chaos: config.chaos.clone(),
        }
    }
}

/// Starts loading; the models are in their place before the lifecycle reaches `serving`. Afterwards `orders` are carried
/// out, one at a time.
pub(super) fn spawn(plan: Plan, parts: Parts, orders: mpsc::Receiver<Order>) -> Loader {
    let (say, heard) = tokio::sync::oneshot::channel();
    let started = thread::Builder::new().name("loader".to_owned()).spawn(move || {
        let workshop = start(plan, parts).map(Arc::new);
        // Nobody listening means that the process is ending.
        let _ = say.send(workshop.as_ref().map(drop).map_err(Exit::clone));
        let Ok(workshop) = workshop else { return };
        for order in orders {
            order::carry_out(&workshop, order);
        }
    });
    Box::pin(async move {
        started.map_err(|error| Exit::load(format!("no thread for loading: {error}")))?;
        heard.await.unwrap_or_else(|_| Err(Exit::load("loading panicked; the log above has the place")))
    })
}

/// Loads what is there at start.
fn start(plan: Plan, parts: Parts) -> Result<Workshop, Exit> {
    // ## Starting => Loading
    parts.lifecycle.apply(Event::LoadStarted, "the ports are open");
    let found = match repository::find(&plan.models, &plan.given) {
        Err(repository::Error::Empty { .. }) if parts.control.is_explicit() => Vec::new(),
        found => found.map_err(Exit::configuration)?,
    };
    if !plan.given.inputs.is_empty()
        && !found.is_empty()
        && found.iter().all(|found| found.spec.inputs != plan.given.inputs)
    {
        tracing::warn!("--input is not used: every model has a model.toml, which says what its inputs are");
    }
    if !parts.control.is_explicit() {
        check_default(&found, plan.default_model.as_deref())?;
    }
    parts.lifecycle.progress(&"opening the engine".into(), 0.0);
    let engine = candidate::open(&plan, &parts)?;
    let rehearsal = Arc::new(Rehearsal::of(&plan.chaos));
    let workshop = Workshop { plan, parts, rehearsal, engine };
    if found.is_empty() {
        tracing::info!("no model is there yet: waiting for the first that is ordered");
        workshop.wait_for_a_model();
        return Ok(workshop);
    }
    let versions = found.into_iter().map(|found| workshop.read(found)).collect::<Result<Vec<_>, _>>();
    let versions = versions.map_err(Exit::load)?;

    // ## Loading => Warming
    let lifecycle = &workshop.parts.lifecycle;
    lifecycle.apply(Event::Loaded, "all models are read");
    let instances = versions.iter().map(|read| read.version.spec.instances).sum();
    let proved = versions.into_iter().map(|read| workshop.prove(read, instances)).collect::<Result<Vec<_>, _>>();
    let mut by_name: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for candidate in proved.map_err(Exit::load)? {
        let handle = candidate.enter(&workshop.parts.pulses);
        by_name.entry(handle.version.name.clone()).or_default().push(handle);
    }
    for (name, handles) in by_name {
        workshop.parts.models.publish(&name, handles);
    }

    // ## Warming => Serving
    lifecycle.apply(Event::Warmed, "all models are proved and warm");
    workshop.rehearsal.begin();
    Ok(workshop)
}

impl Workshop {
    /// A server that may start without a model stays in `loading` until one is ordered and serves.
    fn wait_for_a_model(&self) {
        self.parts.lifecycle.progress(&"waiting for a model".into(), 0.0);
    }
}

/// Whether the model that `/predict` is to mean is there.
fn check_default(found: &[Found], wanted: Option<&str>) -> Result<(), Exit> {
    let Some(wanted) = wanted.filter(|wanted| !found.iter().any(|found| found.name == *wanted)) else { return Ok(()) };
    let mut names: Vec<_> = found.iter().map(|found| found.name.as_str()).collect();
    names.dedup();
    let expected = names.join(", ");
    Err(Exit::configuration(format!("--default-model {wanted}: there is no such model, expected one of {expected}")))
}
