//! The wiring and nothing else: which part gets which end of which channel.

mod check;
mod end;
mod exit;
mod listener;
mod load;
mod probe_listener;
pub mod progress;
mod rehearsal;

use std::sync::Arc;

use indicatif::ProgressBar;
use tokio::runtime::Handle;

pub use check::run as check;
pub use exit::Exit;
pub use listener::Listeners;

use crate::api::Shared;
use crate::batch::Models;
use crate::batch::control::{Control, Rules};
use crate::cli::{EngineArgs, ModelControl};
use crate::config::{self, Config};
use crate::dependency;
use crate::engine::loader;
use crate::health::Health;
use crate::health::watchdog::{self, Watchdog};
use crate::http::connection::Limits;
use crate::lifecycle::drain::Ledger;
use crate::lifecycle::pulse::{Pulse, Pulses};
use crate::lifecycle::{self, Event};
use crate::telemetry::Telemetry;
use crate::telemetry::slow::Slow;
use crate::telemetry::trace::Tracer;
use crate::tensor::pool::Pool;
use listener::Servers;

/// A server whose ports answer and whose models are being loaded.
pub struct App {
    config: Config,
    lifecycle: lifecycle::Tx,
    rx: lifecycle::Rx,
    ledger: Ledger,
    telemetry: Arc<Telemetry>,
    servers: Servers,
    loader: load::Loader,
}

impl App {
    /// Starts to serve, to watch and to load. Needs a tokio runtime.
    pub fn build(config: Config, listeners: Listeners, bar: ProgressBar) -> Result<Self, Exit> {
        let dependencies = config.dependencies.iter().map(|needed| (needed.name.as_str(), needed.required));
        let (lifecycle, rx) = lifecycle::channel(dependencies);
        let tracer = config.traces.clone().map(Tracer::new).transpose().map_err(Exit::configuration)?;
        let telemetry = Arc::new(Telemetry::new(Slow::new(config.slow_request), tracer));
        telemetry.runtime("main", Handle::current());
        let (ledger, pulses) = (Ledger::default(), Pulses::default());
        let models = Arc::new(Models::new(config.default_model.clone()));
        let explicit = config.model_control == ModelControl::Explicit;
        let rules = Rules { repository: config.models.clone(), explicit };
        let (control, orders) = Control::new(models.clone(), lifecycle.clone(), rules);
        let watchdog = Watchdog {
            lifecycle: lifecycle.clone(),
            pulses: pulses.clone(),
            heart: Pulse::default(),
            stall_limit: config.stall_limit,
        };
        tokio::spawn(watchdog::beat(watchdog.heart.clone()));
        let shared = Shared {
            health: Health::new(rx.clone(), watch(&config, &lifecycle), config.ready_while_draining),
            models: models.clone(),
            control: control.clone(),
            control_token: config.control_token.clone(),
            ledger: ledger.clone(),
            telemetry: telemetry.clone(),
            oldest_batch: watchdog.spawn().map_err(Exit::configuration)?,
            label: config.label.clone(),
            console: config.console,
            request_timeout: config.request_timeout,
            memory: Pool::new(config.request_memory),
        };
        let limits = Limits { max_connections: config.max_connections, idle_timeout: config.idle_timeout };
        let servers = Servers::start(listeners, &Arc::new(shared), limits).map_err(Exit::configuration)?;
        rehearsal::announce(&config.chaos, rx.clone());
        tokio::spawn(progress::follow(bar, rx.clone()));
        let kept_up = telemetry.clone();
        tokio::spawn(async move { kept_up.upkeep().await });
        let parts = load::Parts { lifecycle: lifecycle.clone(), pulses, telemetry: telemetry.clone(), models, control };
        let loader = load::spawn(load::Plan::of(&config), parts, orders);
        Ok(Self { config, lifecycle, rx, ledger, telemetry, servers, loader })
    }
}

/// Checks the dependencies from now on, and tells the state machine of every change.
fn watch(config: &Config, lifecycle: &lifecycle::Tx) -> dependency::Rx {
    let lifecycle = lifecycle.clone();
    dependency::watch(config.dependencies.clone(), move |change| {
        let event = if change.up { Event::Up(change.index) } else { Event::Down(change.index) };
        lifecycle.apply(event, change.reason);
    })
}

/// What `--version` prints. Opens the engine, since only it knows its libtorch.
pub fn versions(engine: &EngineArgs) -> String {
    let engine = match loader::open(&config::engine_options(engine, true)) {
        Ok(engine) => {
            let about = engine.about();
            let devices = match about.cuda_devices {
                0 => format!("none ({})", about.cuda_missing),
                count => count.to_string(),
            };
            format!("engine {} {}\n{}\ncuda devices {devices}\n", about.name, about.version, about.library)
        }
        Err(error) => format!("engine: none ({error})\n"),
    };
    format!("torchpod {}\nengine ABI {}\n{engine}", env!("CARGO_PKG_VERSION"), torchpod_abi::VERSION)
}
