//! What a server costs that nobody asks for anything.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::model::{self, Body};
use crate::process::{self, Running};
use crate::request;

const REST: Duration = Duration::from_secs(30);

/// Milliseconds of CPU time in a minute of rest, after some requests.
pub(crate) fn measure(scratch: &Path) -> Result<f64> {
    let digits = model::named("digits")?;
    let server = Running::torchpod(&digits.folder()?, scratch)?;
    server.wait_until_ready()?;
    for _ in 0..100 {
        request::post(server.address, "/predict", Body::Json.content_type(), &digits.request(1, Body::Json)?)?;
    }
    std::thread::sleep(Duration::from_secs(2));
    eprintln!("{REST:?} of rest");
    let before = process::scheduled(server.pid())?;
    std::thread::sleep(REST);
    let millis = (process::scheduled(server.pid())? - before) / 1e3;
    Ok(millis * 60.0 / REST.as_secs_f64())
}
