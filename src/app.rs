//! The wiring and nothing else: which part gets which end of which channel, and what ends the process.

mod exit;
mod load;
pub mod progress;

use std::net::TcpListener;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

pub use exit::Exit;

use crate::chaos::Chaos;
use crate::cli::EngineArgs;
use crate::config::{self, Config};
use crate::engine::loader;
use crate::health::Health;
use crate::http::connection::{self, Limits, Routers};
use crate::http::{self, Shared};
use crate::lifecycle::drain::Ledger;
use crate::lifecycle::{self, Event};
use crate::telemetry::Telemetry;

/// A process that never served has nobody to wait for, only probes to finish.
const NEVER_SERVED_TIMEOUT: Duration = Duration::from_secs(1);

const DEADLINE_PASSED: &str = "the deadline passed";

/// The open ports. They exist before anything else does, so that no probe is ever refused a connection.
pub struct Listeners {
    http: TcpListener,
}

impl Listeners {
    pub fn bind(config: &Config) -> Result<Self, Exit> {
        let bind = || {
            let listener = TcpListener::bind(config.listen)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let http = bind().map_err(|error: std::io::Error| {
            Exit::configuration(format!(
                "--listen {}: {error}; choose another port, or 0 for any free one",
                config.listen
            ))
        })?;
        Ok(Self { http })
    }
}

/// A server whose ports answer and whose models are being loaded.
pub struct App {
    config: Config,
    lifecycle: lifecycle::Tx,
    rx: lifecycle::Rx,
    ledger: Ledger,
    server: connection::Server,
    loader: load::Loader,
}

impl App {
    /// Starts to serve and to load. Needs a tokio runtime.
    pub fn build(config: Config, listeners: Listeners, bar: ProgressBar) -> Result<Self, Exit> {
        let (lifecycle, rx) = lifecycle::channel();
        let telemetry = Arc::new(Telemetry::new());
        let models = Arc::new(OnceLock::new());
        let ledger = Ledger::default();
        let shared = Shared {
            health: Health::new(rx.clone(), config.ready_while_draining),
            models: models.clone(),
            ledger: ledger.clone(),
            telemetry: telemetry.clone(),
            label: config.label.clone(),
            request_timeout: config.request_timeout,
        };
        let address = listeners.http.local_addr().map_err(Exit::configuration)?;
        let shared = Arc::new(shared);
        let routers = Routers { all: http::router(shared.clone()), reserve: http::reserve_router(shared) };
        let limits = Limits { max_connections: config.max_connections, idle_timeout: config.idle_timeout };
        let server = connection::serve(listeners.http, routers, limits).map_err(Exit::configuration)?;
        let connections = server.connections();
        telemetry.listener("http", move || connections.open());
        tracing::info!(http = %address, version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "listening");
        if !config.chaos.is_none() {
            let Chaos { load_delay, batch_delay } = config.chaos;
            tracing::warn!(?load_delay, ?batch_delay, "REHEARSAL: this server is slow on purpose");
        }
        tokio::spawn(progress::follow(bar, rx.clone()));
        let kept_up = telemetry.clone();
        tokio::spawn(async move { kept_up.upkeep().await });
        let loader = load::spawn(load::Plan::of(&config), lifecycle.clone(), telemetry, models);
        Ok(Self { config, lifecycle, rx, ledger, server, loader })
    }

    /// Serves until `terminate`, then drains; `abort` ends the drain at once. Returns how the process should end.
    pub async fn run(
        self,
        terminate: impl Future<Output = &'static str>,
        abort: impl Future<Output = &'static str>,
    ) -> Exit {
        let failed = async {
            match self.loader.await {
                Err(exit) => exit,
                Ok(()) => std::future::pending().await,
            }
        };
        let signal = tokio::select! {
            signal = terminate => signal,
            exit = failed => {
                self.lifecycle.apply(Event::LoadFailed, exit.reason());
                return exit;
            }
        };
        let started = Instant::now();
        self.ledger.start_drain();
        self.lifecycle.apply(Event::Terminate, signal);
        self.server.send_off();
        // Asked after the transition: the loader may have finished a moment before it.
        let served = self.rx.phase().startup_complete();
        let (delay, timeout) = if served {
            (self.config.drain_delay, self.config.drain_timeout)
        } else {
            (Duration::ZERO, NEVER_SERVED_TIMEOUT)
        };
        // Whoever still routes to this server finds it serving until the delay is over.
        let farewell = async {
            tokio::time::sleep(delay).await;
            tokio::time::timeout(timeout, self.server.close()).await
        };
        let reason = tokio::select! {
            closed = farewell => if closed.is_ok() { "in-flight work is done" } else { DEADLINE_PASSED },
            signal = abort => {
                tracing::warn!(signal, "second signal: ending at once");
                "a second signal"
            }
        };
        let report = self.ledger.report(started.elapsed());
        self.lifecycle.apply(Event::Drained, reason);
        tracing::info!(
            completed = report.completed,
            refused = report.refused,
            left = report.left,
            aborted = report.aborted,
            seconds = report.seconds,
            "drain report"
        );
        match report.aborted {
            0 => Exit::clean(),
            _ if reason == DEADLINE_PASSED => Exit::drain_missed(&report),
            _ => Exit::interrupted(&report),
        }
    }
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
