//! From a folder to a handle: a version is read and proved, and nobody sees it before that is done.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Parts, Plan};
use crate::app::Exit;
use crate::batch::Handle;
use crate::batch::worker::{self, Budget, Word, Worker};
use crate::chaos::Rehearsal;
use crate::engine::{About, Device, DeviceChoice, Engine, loader};
use crate::lifecycle::pulse::{Pulse, Pulses};
use crate::model::digest::{self, Digest};
use crate::model::repository::Found;
use crate::model::{Spec, Version};

/// The weights and the digest are read side by side, and must be of one file: answers name the digest.
const CHANGED: &str = "its file changed while it was being read: load it again";

/// A version that computes what it should, and that nobody has seen yet.
pub(super) struct Candidate {
    pub(super) handle: Handle,
    /// Its workers' pulses by their names. The watchdog is not to see them before the version serves.
    pulses: Vec<(String, Pulse)>,
}

/// A version that is in memory and has not proved itself.
pub(super) struct Read {
    pub(super) version: Arc<Version>,
    took: Duration,
    /// Computed beside everything else, so that a start takes no longer for it.
    digest: JoinHandle<io::Result<Digest>>,
}

impl Candidate {
    /// Shows the workers to the watchdog, and gives the handle away.
    pub(super) fn enter(self, pulses: &Pulses) -> Handle {
        for (name, pulse) in &self.pulses {
            pulses.register(name, pulse);
        }
        self.handle
    }
}

/// What turns folders into candidates.
pub(super) struct Workshop {
    pub(super) plan: Plan,
    pub(super) parts: Parts,
    pub(super) rehearsal: Arc<Rehearsal>,
    pub(super) engine: Arc<dyn Engine>,
}

pub(super) fn open(plan: &Plan, parts: &Parts) -> Result<Arc<dyn Engine>, Exit> {
    let started = Instant::now();
    let engine = loader::open(&plan.engine).map_err(Exit::load)?;
    let About { name, version, library, cuda_devices, cuda_missing, .. } = engine.about();
    let seconds = started.elapsed().as_secs_f64();
    tracing::info!(engine = name, version, library, cuda_devices, cuda_missing, seconds, "engine opened");
    parts.telemetry.build_info(name, library);
    if plan.engine.cuda {
        parts.telemetry.watch_gpus();
    }
    Ok(engine)
}

impl Workshop {
    /// Reads the weights. The error says what is wrong, for the log.
    pub(super) fn read(&self, found: Found) -> Result<Read, String> {
        let started = Instant::now();
        let device = device(self.plan.device, &found.spec, self.engine.about())?;
        let stage: Arc<str> = format!("reading {}@{}", found.name, found.version).into();
        self.parts.lifecycle.progress(&stage, 0.0);
        let (file, before) = (found.file.clone(), digest::stamp(&found.file));
        let is_changed = move || digest::stamp(&file) != before;
        let mut seen = 0;
        let (path, is_changed_meanwhile) = (found.file.clone(), is_changed.clone());
        let digest = thread::Builder::new().name("digest".to_owned()).spawn(move || {
            let digest = digest::of(&path)?;
            if is_changed_meanwhile() { Err(io::Error::other(CHANGED)) } else { Ok(digest) }
        });
        let digest = digest.map_err(|error| format!("no thread for a digest: {error}"))?;
        let version = Version::load(self.engine.as_ref(), found, device, &mut |read, total| {
            let mut publish = |bytes| self.parts.lifecycle.progress(&stage, share(bytes, total));
            self.plan.chaos.throttle(seen, read, total, &mut publish);
            publish(read);
            seen = read;
        });
        let version = version.map_err(|error| error.to_string())?;
        if is_changed() {
            return Err(format!("{}: {CHANGED}", version.id()));
        }
        let took = started.elapsed();
        let seconds = took.as_secs_f64();
        tracing::info!(model = version.id(), %device, bytes = seen, seconds, "model read");
        Ok(Read { version, took, digest })
    }

    /// Starts the version's workers one by one: libtorch optimises under one lock, and each needs the warm-up to itself.
    /// `instances` is how many will share the cores.
    pub(super) fn prove(&self, read: Read, instances: usize) -> Result<Candidate, String> {
        let (started, Read { version, took, digest }) = (Instant::now(), read);
        let stage: Arc<str> = format!("proving {}", version.id()).into();
        let metrics = self.parts.telemetry.model(&version.name, &version.version);
        let runs = version.proof_runs() * version.spec.instances;
        let threads = threads(&version.spec, instances);
        let mut candidate =
            Candidate { handle: Handle::new(version, metrics, self.plan.max_queue), pulses: Vec::new() };
        let chaos = &self.plan.chaos;
        let options = worker::Options { threads, batch_delay: chaos.batch_delay, crowd_delay: chaos.crowd_delay };
        let mut done = 0;
        for index in 0..candidate.handle.version.spec.instances {
            let worker = self.worker(&candidate.handle, index, options);
            let version = &candidate.handle.version;
            candidate.pulses.push((format!("{}-{index}", version.id()), worker.pulse.clone()));
            let words = worker::spawn(worker).map_err(|error| format!("no thread for {}: {error}", version.id()))?;
            loop {
                match words.recv() {
                    Ok(Word::Run) => done += 1,
                    Ok(Word::Ready) => break,
                    Ok(Word::Failed(error)) => return Err(error.to_string()),
                    Err(_) => return Err(format!("a worker of {} panicked", version.id())),
                }
                self.parts.lifecycle.progress(&stage, share(done, runs as u64));
            }
        }
        let version = &candidate.handle.version;
        let digest = digest.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked")));
        let digest = digest.map_err(|error| format!("{} has no digest: {error}", version.id()))?;
        let digest = version.digest.get_or_init(|| digest);
        candidate.handle.metrics.loaded(took + started.elapsed());
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!(model = version.id(), %digest, runs, threads, seconds, "model proved and warm");
        Ok(candidate)
    }

    fn worker(&self, handle: &Handle, index: usize, options: worker::Options) -> Worker {
        Worker {
            served: (**handle).clone(),
            index,
            options,
            lifecycle: self.parts.lifecycle.clone(),
            pulse: Pulse::default(),
            rehearsal: self.rehearsal.clone(),
            tracer: self.parts.telemetry.tracer.clone(),
            budget: Budget::default(),
        }
    }
}

fn share(part: u64, whole: u64) -> f32 {
    #[allow(clippy::cast_precision_loss)] // It is shown to two digits.
    let share = part as f32 / whole.max(1) as f32;
    share.min(1.0)
}

/// Intra-op threads of an instance, where `instances` share the cores that the cgroup's quota and the affinity mask leave.
pub(in crate::app) fn threads(spec: &Spec, instances: usize) -> usize {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    spec.threads.unwrap_or(cores / instances.max(1)).clamp(1, cores)
}

/// The flag decides unless it is `auto`; then the model.toml; then what there is.
pub(in crate::app) fn device(flag: DeviceChoice, spec: &Spec, about: &About) -> Result<Device, String> {
    let choice = if flag == DeviceChoice::Auto { spec.device } else { flag };
    match choice {
        DeviceChoice::Cpu => Ok(Device::Cpu),
        DeviceChoice::Auto if about.cuda_devices == 0 => Ok(Device::Cpu),
        DeviceChoice::Auto => Ok(Device::Cuda(0)),
        DeviceChoice::Cuda(index) if index < about.cuda_devices => Ok(Device::Cuda(index)),
        DeviceChoice::Cuda(index) => Err(match about.cuda_devices {
            0 => format!(
                "device cuda:{index} is not there: {}; `--device auto` falls back to the CPU",
                about.cuda_missing
            ),
            count => format!("device cuda:{index} is not there: expected cuda:0 to cuda:{}", count - 1),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec;

    #[test]
    fn the_flag_decides_before_the_model_and_the_model_before_what_there_is() {
        let about = |cuda_devices| About {
            name: String::new(),
            version: String::new(),
            library: String::new(),
            cuda_devices,
            cuda_missing: "no CUDA driver".to_owned(),
        };
        let spec = |device| Spec { device, ..spec::from_inputs(Vec::new()) };
        let (auto, cpu, cuda) = (DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(1));
        assert_eq!(device(auto, &spec(auto), &about(0)), Ok(Device::Cpu));
        assert_eq!(device(auto, &spec(auto), &about(2)), Ok(Device::Cuda(0)));
        assert_eq!(device(auto, &spec(cuda), &about(2)), Ok(Device::Cuda(1)));
        assert_eq!(device(cpu, &spec(cuda), &about(2)), Ok(Device::Cpu));
        assert!(device(cuda, &spec(auto), &about(0)).unwrap_err().contains("no CUDA driver"));
        assert!(device(cuda, &spec(auto), &about(1)).unwrap_err().contains("expected cuda:0"));
    }
}
