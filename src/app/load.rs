//! The way from `starting` to `serving`, on a thread of its own: find, open, read, prove.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Instant;

use super::Exit;
use crate::batch::worker::{self, Budget, Word, Worker};
use crate::batch::{Handle, Models};
use crate::chaos::{Chaos, Rehearsal};
use crate::config::Config;
use crate::engine::{About, Device, DeviceChoice, Engine, loader};
use crate::lifecycle::pulse::Pulses;
use crate::lifecycle::{Event, Tx};
use crate::model::repository::{self, Found, Given};
use crate::model::{Spec, Version};
use crate::telemetry::Telemetry;

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
    chaos: Chaos,
}

/// Which parts loading fills or tells.
pub(super) struct Parts {
    pub(super) lifecycle: Tx,
    pub(super) pulses: Pulses,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) models: Arc<OnceLock<Models>>,
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
            chaos: config.chaos.clone(),
        }
    }
}

/// Starts loading; the models are in their place before the lifecycle reaches `serving`.
pub(super) fn spawn(plan: Plan, parts: Parts) -> Loader {
    let (say, heard) = tokio::sync::oneshot::channel();
    let rehearsal = Arc::new(Rehearsal::of(&plan.chaos));
    let started = thread::Builder::new().name("loader".to_owned()).spawn(move || {
        let result = Load { plan, parts, rehearsal }.run();
        // Nobody listening means that the process is ending.
        let _ = say.send(result);
    });
    Box::pin(async move {
        started.map_err(|error| Exit::load(format!("no thread for loading: {error}")))?;
        heard.await.unwrap_or_else(|_| Err(Exit::load("loading panicked; the log above has the place")))
    })
}

struct Load {
    plan: Plan,
    parts: Parts,
    rehearsal: Arc<Rehearsal>,
}

impl Load {
    fn run(&self) -> Result<(), Exit> {
        let (plan, lifecycle) = (&self.plan, &self.parts.lifecycle);
        // ## Starting => Loading
        lifecycle.apply(Event::LoadStarted, "the ports are open");
        let found = highest(repository::find(&plan.models, &plan.given).map_err(Exit::configuration)?);
        let default = default_of(&found, plan.default_model.as_deref())?;

        lifecycle.progress(&"opening the engine".into(), 0.0);
        let engine = self.open()?;
        let versions =
            found.into_iter().map(|found| self.read(engine.as_ref(), found)).collect::<Result<Vec<_>, _>>()?;

        // ## Loading => Warming
        lifecycle.apply(Event::Loaded, "all models are read");
        let instances = versions.iter().map(|version| version.spec.instances).sum();
        let handles =
            versions.into_iter().map(|version| self.prove(version, instances)).collect::<Result<Vec<_>, _>>()?;

        // ## Warming => Serving
        if let Some(ready) = Models::new(handles, default) {
            let _ = self.parts.models.set(ready);
            lifecycle.apply(Event::Warmed, "all models are proved and warm");
            self.rehearsal.begin();
        }
        Ok(())
    }

    fn open(&self) -> Result<Arc<dyn Engine>, Exit> {
        let started = Instant::now();
        let engine = loader::open(&self.plan.engine).map_err(Exit::load)?;
        let About { name, version, library, cuda_devices, cuda_missing, .. } = engine.about();
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!(engine = name, version, library, cuda_devices, cuda_missing, seconds, "engine opened");
        self.parts.telemetry.build_info(name, library);
        Ok(engine)
    }

    fn read(&self, engine: &dyn Engine, found: Found) -> Result<Arc<Version>, Exit> {
        let started = Instant::now();
        let device = device(self.plan.device, &found.spec, engine.about()).map_err(Exit::load)?;
        let stage: Arc<str> = format!("reading {}@{}", found.name, found.version).into();
        self.parts.lifecycle.progress(&stage, 0.0);
        let mut seen = 0;
        let version = Version::load(engine, found, device, &mut |read, total| {
            let mut publish = |bytes| self.parts.lifecycle.progress(&stage, share(bytes, total));
            self.plan.chaos.throttle(seen, read, total, &mut publish);
            publish(read);
            seen = read;
        });
        let version = version.map_err(Exit::load)?;
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!(model = version.id(), %device, bytes = seen, seconds, "model read");
        Ok(version)
    }

    /// Starts the version's workers one by one: libtorch optimises under one lock, and each needs the warm-up to itself.
    fn prove(&self, version: Arc<Version>, instances: usize) -> Result<Handle, Exit> {
        let started = Instant::now();
        let stage: Arc<str> = format!("proving {}", version.id()).into();
        let metrics = self.parts.telemetry.model(&version.name, &version.version);
        let runs = version.proof_runs() * version.spec.instances;
        let threads = version.spec.threads.unwrap_or_else(|| cores() / instances).clamp(1, cores());
        let handle = Handle::new(version, metrics, self.plan.max_queue);
        let options = worker::Options { threads, batch_delay: self.plan.chaos.batch_delay };
        let mut done = 0;
        for index in 0..handle.version.spec.instances {
            let words = worker::spawn(self.worker(&handle, index, options))
                .map_err(|error| Exit::load(format!("no thread for {}: {error}", handle.version.id())))?;
            loop {
                match words.recv() {
                    Ok(Word::Run) => done += 1,
                    Ok(Word::Ready) => break,
                    Ok(Word::Failed(error)) => return Err(Exit::load(error)),
                    Err(_) => return Err(Exit::load(format!("a worker of {} panicked", handle.version.id()))),
                }
                self.parts.lifecycle.progress(&stage, share(done, runs as u64));
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!(model = handle.version.id(), runs, threads, seconds, "model proved and warm");
        Ok(handle)
    }

    fn worker(&self, handle: &Handle, index: usize, options: worker::Options) -> Worker {
        let parts = &self.parts;
        Worker {
            served: (**handle).clone(),
            index,
            options,
            lifecycle: parts.lifecycle.clone(),
            pulse: parts.pulses.register(&format!("{}-{index}", handle.version.id())),
            rehearsal: self.rehearsal.clone(),
            budget: Budget::default(),
        }
    }
}

/// The highest version of each model, for as long as only one can be served.
fn highest(found: Vec<Found>) -> Vec<Found> {
    found.into_iter().fold(Vec::new(), |mut models: Vec<Found>, found| {
        models.pop_if(|last| last.name == found.name);
        models.push(found);
        models
    })
}

fn share(part: u64, whole: u64) -> f32 {
    #[allow(clippy::cast_precision_loss)] // It is shown to two digits.
    let share = part as f32 / whole.max(1) as f32;
    share.min(1.0)
}

/// Cores that the cgroup's quota and the affinity mask leave.
pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Which of `found` is the model that `/predict` means.
fn default_of(found: &[Found], wanted: Option<&str>) -> Result<usize, Exit> {
    let names = || found.iter().map(|found| found.name.as_str()).collect::<Vec<_>>().join(", ");
    match (wanted, found) {
        (None, [_]) => Ok(0),
        (None, _) => {
            Err(Exit::configuration(format!("there are several models ({}): name one with --default-model", names())))
        }
        (Some(wanted), _) => found.iter().position(|found| found.name == wanted).ok_or_else(|| {
            Exit::configuration(format!(
                "--default-model {wanted}: there is no such model, expected one of {}",
                names()
            ))
        }),
    }
}

/// The flag decides unless it is `auto`; then the model.toml; then what there is.
pub(super) fn device(flag: DeviceChoice, spec: &Spec, about: &About) -> Result<Device, String> {
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
