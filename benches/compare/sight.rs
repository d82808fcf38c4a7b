//! What sight costs: torchpod with everything on by which it is seen, beside one of which nothing is, but for its counting.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::routing::post;

use crate::cell::{Cell, Figure};
use crate::load::{Clients, Driver, Load};
use crate::process::{Options, Running};
use crate::request;
use crate::target::{Bound, Verdict};

pub(crate) const ROLE: &str = "collector";

/// Of throughput: sight costs at most 3 %.
const KEPT: f64 = 0.97;
/// Two servers of one kind differ by up to a tenth for as long as they live: so each pair is a fresh one.
const PAIRS: usize = 9;
const ROUNDS: usize = 4;
const SECONDS: u32 = 1;
/// How often metrics and the console's state are asked for.
const LOOK: Duration = Duration::from_secs(1);
/// The share of requests that are traced.
const TRACED: &str = "0.01";

/// What of it is on, in words.
pub(crate) fn about() -> String {
    format!(
        "JSON logs with slow requests, the console and `/metrics` looked at every {LOOK:?}, and {TRACED} of the requests \
         traced to a collector; beside it a server with none of that. Medians and ends of {PAIRS} pairs of servers."
    )
}

/// Takes whatever spans it is sent.
pub(crate) fn child() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        Ok(axum::serve(listener, Router::new().route("/v1/traces", post(async || ()))).await?)
    })
}

pub(crate) fn measure(cells: &[Cell], scratch: &Path) -> Result<Vec<(Cell, Verdict)>> {
    cells.iter().map(|cell| Ok((*cell, one(cell, scratch)?))).collect()
}

fn one(cell: &Cell, scratch: &Path) -> Result<Verdict> {
    eprintln!("sight: {cell}, {PAIRS} pairs");
    let body = scratch.join("seen");
    std::fs::write(&body, cell.model.request(cell.rows, cell.body)?)?;
    let driver = Driver::new(scratch)?;
    let drive = |server: &Running| -> Result<f64> {
        let content_type = cell.body.content_type();
        let (clients, seconds) = (Clients::busy(cell.connections), SECONDS);
        let load = Load { path: "/predict", body: &body, content_type, header: None, clients, seconds };
        Ok(driver.drive(server, &load)?.requests_per_second)
    };
    let ratios: Vec<f64> = (0..PAIRS).map(|_| pair(cell, scratch, &drive)).collect::<Result<_>>()?;
    Ok(Verdict { what: "requests/s seen ÷ unseen", figure: Figure::of(ratios), bound: Bound::Least(KEPT) })
}

/// The median of what a server that is seen does of what one does that is not.
fn pair(cell: &Cell, scratch: &Path, drive: &impl Fn(&Running) -> Result<f64>) -> Result<f64> {
    let collector = Running::child(&[ROLE.as_ref()])?;
    let endpoint = format!("http://{}", collector.address);
    let unseen = ["--log-filter", "off", "--slow-request", "0s", "--no-console"];
    let seen = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", TRACED),
    ];
    let models = cell.model.folder()?;
    let unseen = Running::with(&models, scratch, &Options { arguments: &unseen, ..Options::default() })?;
    let seen = Running::with(
        &models,
        scratch,
        &Options { arguments: &["--log-format", "json"], variables: &seen, ..Options::default() },
    )?;
    for server in [&unseen, &seen] {
        server.wait_until_ready()?;
        drive(server)?;
    }
    let is_over = AtomicBool::new(false);
    let ratios = thread::scope(|scope| {
        scope.spawn(|| look(&seen, &is_over));
        let ratio = |round: usize| {
            // Each goes first in every second round: the machine drifts.
            let (first, second) = if round.is_multiple_of(2) { (&unseen, &seen) } else { (&seen, &unseen) };
            let (first, second) = (drive(first)?, drive(second)?);
            Ok(if round.is_multiple_of(2) { second / first } else { first / second })
        };
        let ratios: Result<Vec<f64>> = (0..ROUNDS).map(ratio).collect();
        is_over.store(true, Ordering::Relaxed);
        ratios
    })?;
    Ok(Figure::of(ratios).median)
}

/// As Prometheus and a browser do, until it `is_over`.
fn look(server: &Running, is_over: &AtomicBool) {
    let looks: [(SocketAddr, &str); 2] = [(server.probe, "/metrics"), (server.address, "/console/state")];
    while !is_over.load(Ordering::Relaxed) {
        for (address, path) in looks {
            // What is not answered costs less, and fails elsewhere.
            let _ = request::get(address, path);
        }
        thread::sleep(LOOK);
    }
}
