//! `torchpod check`: every model found, loaded, proved and warmed by the code that serves, without serving.

mod report;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::{Exit, load};
use crate::cli::{CheckArgs, EngineArgs};
use crate::config::Check;
use crate::engine::{Device, Engine, loader};
use crate::model::repository::{self, Found};
use crate::model::{Version, digest};
use report::{Checked, Measured, Report};

/// Checks what `args` name and prints the report. The last word is the exit's.
pub fn run(args: CheckArgs, engine: &EngineArgs) -> Exit {
    let json = args.json;
    let checked = Check::new(args, engine).map_err(Exit::configuration).and_then(|check| measure(&check));
    let exit = match checked {
        Ok(report) => {
            print!("{}", if json { report.json() } else { report.text(columns()) });
            match report.failed() {
                0 => Exit::clean(),
                failed => Exit::load(format!("{failed} of {} versions cannot be served", report.versions.len())),
            }
        }
        Err(exit) => exit,
    };
    // The container's end is not for this to explain.
    exit.with_termination_log(PathBuf::new())
}

/// Of the terminal that the table is printed to.
fn columns() -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(size.ws_col).filter(|columns| *columns > 0)
}

fn measure(check: &Check) -> Result<Report, Exit> {
    let found = repository::find(&check.models, &check.given).map_err(|error| match error {
        repository::Error::Invalid(wrong) => Exit::configuration(wrong.join("\ntorchpod: ")),
        error => Exit::configuration(error),
    })?;
    let started = Instant::now();
    let engine = loader::open(&check.engine).map_err(Exit::load)?;
    let opened = started.elapsed();
    let instances = found.iter().map(|found| found.spec.instances).sum();
    let versions = found.into_iter().map(|found| one(engine.as_ref(), found, check, instances)).collect();
    Ok(Report { library: engine.about().library.clone(), opened, versions })
}

/// One version; what goes wrong is part of the report, so that the others are checked too.
fn one(engine: &dyn Engine, found: Found, check: &Check, instances: usize) -> Checked {
    let (model, version, file) = (found.name.clone(), found.version.clone(), found.file.clone());
    let measured = load_and_prove(engine, found, check, instances);
    Checked { model, version, digest: digest::of(&file).ok().map(|digest| digest.to_string()), measured }
}

fn load_and_prove(engine: &dyn Engine, found: Found, check: &Check, instances: usize) -> Result<Measured, String> {
    let device = load::device(check.device, &found.spec, engine.about())?;
    let (started, before) = (Instant::now(), memory(engine, device));
    let version = Version::load(engine, found, device, &mut |_, _| {}).map_err(|error| error.to_string())?;
    let loaded = started.elapsed();
    let threads = load::threads(&version.spec, instances);
    let started = Instant::now();
    for _ in 0..version.spec.instances {
        prove(version.clone(), threads)?;
    }
    let (warmed, after) = (started.elapsed(), memory(engine, device));
    Ok(Measured { version, loaded, warmed, memory: after.saturating_sub(before) })
}

/// As a worker does before it takes requests: on a thread of its own, since an instance never leaves its thread.
fn prove(version: Arc<Version>, threads: usize) -> Result<(), String> {
    let prove = move || {
        let mut instance = version.model.instance(threads).map_err(|error| error.to_string())?;
        version.prove(instance.as_mut(), &mut || {}).map_err(|error| error.to_string())
    };
    let proving = thread::Builder::new().name("check".to_owned()).spawn(prove).map_err(|error| error.to_string())?;
    proving.join().unwrap_or_else(|_| Err("the worker panicked; the lines above have the place".to_owned()))
}

/// Bytes in use: the engine's on a GPU, the process's own on a CPU, where nothing else is counted apart.
fn memory(engine: &dyn Engine, device: Device) -> u64 {
    match device {
        Device::Cpu => resident().unwrap_or(0),
        Device::Cuda(_) => engine.memory(device),
    }
}

fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory() {
        assert!(resident().is_some_and(|bytes| bytes > 1 << 20));
    }
}
