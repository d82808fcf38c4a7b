//! What the GPUs do, as NVIDIA's management library tells it where there is one: opened at run time, by a thread of its own.
//!
//! A question to the driver takes milliseconds, and never ends where a GPU has fallen off its bus. So a scrape only reads
//! what the thread has found last, and nothing at all once that is too old to be believed.

mod visible;

use std::ffi::OsStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nvml_wrapper::enum_wrappers::device::TemperatureSensor;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::figures::Text;
use super::table::{GPU_INFO, GPU_MEMORY_TOTAL, GPU_MEMORY_USED, GPU_POWER, GPU_TEMPERATURE, GPU_UTILIZATION};

/// As the driver's packages and the container toolkit install it; the name without a number is the developers'.
const LIBRARY: &str = "libnvidia-ml.so.1";
const PERIOD: Duration = Duration::from_secs(2);
/// What is older was true of another moment.
const BELIEVED: Duration = Duration::from_secs(6);

/// A GPU, and what it said of itself as far as it said something: one that is shared out in slices does not know its load.
#[derive(Clone, Default)]
pub(super) struct Gpu {
    /// The number that CUDA gives it.
    number: String,
    uuid: String,
    name: String,
    /// In the order of [`FIGURES`].
    figures: [Option<f64>; FIGURES.len()],
}

const FIGURES: [&str; 5] = [GPU_UTILIZATION, GPU_MEMORY_USED, GPU_MEMORY_TOTAL, GPU_TEMPERATURE, GPU_POWER];

struct Found {
    at: Instant,
    gpus: Vec<Gpu>,
}

/// What was found last. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Latest(Arc<Mutex<Option<Found>>>);

impl Latest {
    /// What is still believed.
    pub(super) fn now(&self) -> Vec<Gpu> {
        let latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let believed = latest.as_ref().filter(|found| found.at.elapsed() < BELIEVED);
        believed.map(|found| found.gpus.clone()).unwrap_or_default()
    }

    fn set(&self, gpus: Vec<Gpu>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Found { at: Instant::now(), gpus });
    }
}

/// From now on `latest` is kept up to date, if there are GPUs.
pub(super) fn watch(latest: Latest) {
    let follow = move || {
        if let Err(error) = follow(&latest) {
            tracing::debug!(%error, "no GPU is watched");
        }
    };
    // Without a thread, there are no figures.
    let _ = thread::Builder::new().name("gpus".to_owned()).spawn(follow);
}

/// Returns only where there is nothing to follow.
fn follow(latest: &Latest) -> Result<(), NvmlError> {
    let nvml = Nvml::builder().lib_path(OsStr::new(LIBRARY)).init()?;
    // In a container, a GPU of others may be counted and not be opened.
    let all: Vec<_> = (0..nvml.device_count()?).map(|index| nvml.device_by_index(index).ok()).collect();
    let uuid = |device: &Option<Device<'_>>| device.as_ref().and_then(|device| device.uuid().ok()).unwrap_or_default();
    let uuids: Vec<String> = all.iter().map(uuid).collect();
    let wanted = std::env::var("CUDA_VISIBLE_DEVICES").ok();
    let devices = visible::by_number(wanted.as_deref(), &uuids);
    // Asked once: one that fails later keeps the name by which its series is known.
    let named = |index: usize| {
        let device = all[index].as_ref()?;
        Some((device, Gpu { uuid: uuids[index].clone(), name: device.name().unwrap_or_default(), ..Gpu::default() }))
    };
    let devices: Vec<_> = devices.into_iter().map(named).enumerate().collect();
    tracing::info!(gpus = devices.len(), driver = nvml.sys_driver_version().ok(), "GPUs are watched");
    loop {
        let read = devices.iter().filter_map(|(number, device)| Some(read(*number, device.as_ref()?)));
        latest.set(read.collect());
        thread::sleep(PERIOD);
    }
}

#[allow(clippy::cast_precision_loss)] // No GPU has 2⁵³ bytes.
fn read(number: usize, (device, named): &(&Device<'_>, Gpu)) -> Gpu {
    let memory = device.memory_info().ok();
    Gpu {
        number: number.to_string(),
        uuid: named.uuid.clone(),
        name: named.name.clone(),
        figures: [
            device.utilization_rates().ok().map(|rates| f64::from(rates.gpu) / 100.0),
            memory.as_ref().map(|memory| memory.used as f64),
            memory.as_ref().map(|memory| memory.total as f64),
            device.temperature(TemperatureSensor::Gpu).ok().map(f64::from),
            device.power_usage().ok().map(|milliwatts| f64::from(milliwatts) / 1000.0),
        ],
    }
}

pub(super) fn tell(text: &mut Text, gpus: &[Gpu]) {
    text.metric(GPU_INFO, gpus.iter().map(|gpu| ([&*gpu.number, &*gpu.uuid, &*gpu.name], 1.0)));
    for (index, name) in FIGURES.into_iter().enumerate() {
        text.metric(name, gpus.iter().filter_map(|gpu| Some(([&*gpu.number], gpu.figures[index]?))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_too_long_ago_is_not_told() {
        let latest = Latest::default();
        assert_eq!(latest.now().len(), 0, "nothing was found yet");
        latest.set(vec![Gpu::default()]);
        assert_eq!(latest.now().len(), 1);
        let long_ago = Instant::now().checked_sub(BELIEVED).expect("the machine has been up for longer");
        latest.0.lock().unwrap().as_mut().expect("it was set").at = long_ago;
        assert_eq!(latest.now().len(), 0);
    }
}
