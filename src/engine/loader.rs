//! Finds an engine's shared object, opens it, and speaks its C ABI: the server's only unsafe code.
#![allow(unsafe_code)]

use std::ffi::{OsString, c_void};
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use bytes::Bytes;
use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_LOCAL, RTLD_NOW};
use torchpod_abi as abi;

use super::{About, Device, Engine, Error, Format, Instance, Kind, Layout, Model, Outputs, Slot, Source, Trouble};
use crate::tensor::{DType, Tensor, text};

const FILE: &str = "libtorchpod_torch.so";

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The engine's folder; by default the executable's own, then `../lib/torchpod` from there.
    pub engine_dir: Option<PathBuf>,
    /// The folder that holds libtorch's `lib`; by default the one that the engine was built against.
    pub libtorch: Option<PathBuf>,
    /// False leaves CUDA alone even where it is present.
    pub cuda: bool,
}

/// Opens the engine. Takes a third of a second for libtorch on a warm machine and seconds on a cold one: never call it
/// from a thread that serves.
pub fn open(options: &Options) -> Result<Arc<dyn Engine>, Error> {
    let path = find(options.engine_dir.as_deref())?;
    if let Some(dir) = &options.libtorch {
        preload(dir)?;
    }
    // SAFETY: loading runs the library's initialisers: our own engine's, and libtorch's, which expect nothing of us.
    let library =
        unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) }.map_err(|error| missing(&path, &error))?;
    // SAFETY: the symbol's type is the ABI's contract, and the version is checked before anything else is believed.
    let table = unsafe {
        let entry = library
            .get::<abi::Entry>(abi::SYMBOL.to_bytes_with_nul())
            .map_err(|error| unfit(&path, &format!("it exports no entry point ({error})")))?;
        NonNull::new(entry().cast_mut()).ok_or_else(|| unfit(&path, "its entry point returns nothing"))?
    };
    // libtorch cannot be unloaded: its threads and registries outlive every handle.
    std::mem::forget(library);
    // SAFETY: `size` and `version` lead the table in every version of the ABI.
    let (size, version) = unsafe { ((*table.as_ptr()).size, (*table.as_ptr()).version) };
    if version != abi::VERSION || size != size_of::<abi::Api>() {
        return Err(unfit(&path, &format!("it speaks ABI {version}, the server {}", abi::VERSION)));
    }
    // SAFETY: the table has the size that we expect and lives as long as the library, which is never closed.
    let api: &'static abi::Api = unsafe { table.as_ref() };
    let dir = options.libtorch.as_ref().map(|dir| dir.to_string_lossy().into_owned()).unwrap_or_default();
    let open = abi::OpenOptions { library_dir: abi::Text::new(&dir), cuda: options.cuda.into() };
    let mut handle = ptr::null_mut();
    // SAFETY: the options outlive the call and `handle` is writable.
    call(|error| unsafe { (api.open)(&raw const open, &raw mut handle, error) })?;
    let handle = EngineHandle { api, handle };
    let about = handle.about();
    Ok(Arc::new(LoadedEngine { handle: Arc::new(handle), about }))
}

/// The engine's file, which exists.
fn find(engine_dir: Option<&Path>) -> Result<PathBuf, Error> {
    let candidates = if let Some(dir) = engine_dir {
        vec![dir.join(FILE)]
    } else {
        let executable = std::env::current_exe().and_then(std::fs::canonicalize).unwrap_or_default();
        let beside = executable.parent().unwrap_or(Path::new("")).to_owned();
        vec![beside.join(FILE), beside.join("../lib/torchpod").join(FILE)]
    };
    candidates.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
        let looked: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
        Error::Missing {
            missing: format!("{FILE} is missing, looked for {}", looked.join(" and ")),
            hint: "build it with `cargo build`, or name its folder with --engine-dir".to_owned(),
        }
    })
}

/// Brings the copy of libtorch in `dir` into the process, so that the engine finds it by its name.
fn preload(dir: &Path) -> Result<(), Error> {
    let path = dir.join("lib/libtorch_cpu.so");
    // SAFETY: libtorch's initialisers expect nothing of us.
    let library = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) }.map_err(|error| Error::Missing {
        missing: format!("has no libtorch at --libtorch {} ({})", dir.display(), reason(&error)),
        hint: "name the folder that holds lib/libtorch_cpu.so, such as site-packages/torch of torch 2.11.0".to_owned(),
    })?;
    std::mem::forget(library);
    Ok(())
}

fn missing(path: &Path, error: &libloading::Error) -> Error {
    let reason = reason(error);
    let hint = if reason.contains("libtorch") || reason.contains("libc10") {
        "libtorch is missing: get it with `make libtorch`, or name the torch folder of a `pip install torch==2.11.0` with --libtorch"
    } else {
        "a library that it needs is missing; `ldd` on this file names it"
    };
    Error::Missing { missing: format!("{} cannot be opened ({reason})", path.display()), hint: hint.to_owned() }
}

fn unfit(path: &Path, why: &str) -> Error {
    Error::Missing {
        missing: format!("{} does not fit: {why}", path.display()),
        hint: "use the engine that was built with this server".to_owned(),
    }
}

/// The dynamic loader's own words.
fn reason(error: &libloading::Error) -> String {
    match error {
        libloading::Error::DlOpen { source } | libloading::Error::DlSym { source } => source.to_string(),
        other => other.to_string(),
    }
}

/// Runs one ABI call and turns its error into ours.
fn call(run: impl FnOnce(*mut abi::Error) -> u32) -> Result<(), Error> {
    call_with(&mut abi::Error::default(), run)
}

/// The same with room for an error that is there already, whatever it holds: four KiB are not cleared for every batch.
fn call_with(error: &mut abi::Error, run: impl FnOnce(*mut abi::Error) -> u32) -> Result<(), Error> {
    let class = run(&raw mut *error);
    let message = || error.message();
    match class {
        abi::class::NONE => Ok(()),
        abi::class::BAD_INPUT => Err(Error::BadInput(message())),
        abi::class::OUT_OF_MEMORY => Err(Error::OutOfMemory(message())),
        abi::class::DEVICE_LOST => Err(Error::DeviceLost(message())),
        abi::class::UNFIT => Err(Error::Unfit(message())),
        _ => Err(Error::Failed(message())),
    }
}

/// # Safety
/// `text` points to readable bytes for as long as `'a`.
unsafe fn borrow<'a>(text: abi::Text) -> std::borrow::Cow<'a, str> {
    if text.len == 0 {
        return "".into();
    }
    // SAFETY: the caller's.
    String::from_utf8_lossy(unsafe { std::slice::from_raw_parts(text.data, text.len) })
}

/// Owns an ABI handle and gives it back to the engine when the last user is gone.
struct EngineHandle {
    api: &'static abi::Api,
    handle: *mut abi::Engine,
}

// SAFETY: the ABI lets any thread call with an engine.
unsafe impl Send for EngineHandle {}
// SAFETY: as above.
unsafe impl Sync for EngineHandle {}

impl EngineHandle {
    fn about(&self) -> About {
        let empty = abi::Text { data: ptr::null(), len: 0 };
        let mut about =
            abi::About { name: empty, version: empty, library: empty, cuda_devices: 0, cuda_missing: empty };
        // SAFETY: the handle is live, the place writable, and the texts live as long as the engine.
        unsafe {
            (self.api.about)(self.handle, &raw mut about);
            About {
                name: borrow(about.name).into_owned(),
                version: borrow(about.version).into_owned(),
                library: borrow(about.library).into_owned(),
                cuda_devices: about.cuda_devices,
                cuda_missing: borrow(about.cuda_missing).into_owned(),
            }
        }
    }
}

impl Drop for EngineHandle {
    fn drop(&mut self) {
        // SAFETY: every model holds an `Arc` of this handle, so nothing uses the engine any more.
        unsafe { (self.api.close)(self.handle) }
    }
}

struct LoadedEngine {
    handle: Arc<EngineHandle>,
    about: About,
}

impl Engine for LoadedEngine {
    fn about(&self) -> &About {
        &self.about
    }

    fn memory(&self, device: Device) -> u64 {
        let mut statistics = abi::Statistics::default();
        // SAFETY: the engine is live and the place writable.
        unsafe { (self.handle.api.statistics)(self.handle.handle, device.into(), &raw mut statistics) };
        statistics.reserved_bytes
    }

    fn load(&self, source: &Source<'_>, mut progress: &mut dyn FnMut(u64, u64)) -> Result<Box<dyn Model>, Error> {
        let path = OsString::from(source.path)
            .into_string()
            .map_err(|path| Error::Failed(format!("{} is not UTF-8", path.display())))?;
        let options = abi::LoadOptions {
            path: abi::Text::new(&path),
            device: source.device.into(),
            format: match source.format {
                Format::Script => abi::format::SCRIPT,
                Format::Aoti => abi::format::AOTI,
            },
            precision: source.precision.map_or(0, DType::abi),
            channels_last: source.channels_last.into(),
            instances: u32::try_from(source.instances).unwrap_or(u32::MAX),
        };
        let mut handle = ptr::null_mut();
        let api = self.handle.api;
        // SAFETY: the options and `progress` outlive the call; `report` expects exactly this context.
        call(|error| unsafe {
            (api.model_load)(
                self.handle.handle,
                &raw const options,
                report,
                (&raw mut progress).cast(),
                &raw mut handle,
                error,
            )
        })?;
        let handle = Arc::new(ModelHandle { engine: self.handle.clone(), handle });
        let (arguments, kinds, required) = handle.arguments();
        Ok(Box::new(LoadedModel { handle, arguments, kinds, required }))
    }
}

impl From<Device> for abi::Device {
    fn from(device: Device) -> Self {
        match device {
            Device::Cpu => Self { kind: Self::CPU, index: 0 },
            Device::Cuda(index) => Self { kind: Self::CUDA, index },
        }
    }
}

/// Hands the engine's progress to the closure behind `context`.
unsafe extern "C" fn report(context: *mut c_void, read: u64, total: u64) -> u32 {
    // SAFETY: `load` passes a pointer to its `&mut dyn FnMut`, which outlives the call.
    let progress = unsafe { &mut *context.cast::<&mut dyn FnMut(u64, u64)>() };
    progress(read, total);
    1
}

struct ModelHandle {
    engine: Arc<EngineHandle>,
    handle: *mut abi::Model,
}

// SAFETY: the ABI lets any thread call with a model.
unsafe impl Send for ModelHandle {}
// SAFETY: as above.
unsafe impl Sync for ModelHandle {}

impl ModelHandle {
    /// Their names, what they are, and how many of them must be given.
    fn arguments(&self) -> (Vec<String>, Vec<Kind>, usize) {
        let mut about =
            abi::ModelAbout { arguments: ptr::null(), kinds: ptr::null(), argument_count: 0, required_count: 0 };
        // SAFETY: the handle is live, the place writable, the texts live as long as the model, and each has its kind.
        unsafe {
            (self.engine.api.model_about)(self.handle, &raw mut about);
            let each = 0..about.argument_count;
            let names = each.clone().map(|index| borrow(*about.arguments.add(index)).into_owned()).collect();
            let kinds = each.map(|index| kind(*about.kinds.add(index))).collect();
            (names, kinds, about.required_count)
        }
    }
}

fn kind(number: u32) -> Kind {
    match number {
        abi::argument::TENSOR => Kind::Tensor,
        abi::argument::TEXTS => Kind::Texts,
        abi::argument::TEXT_LISTS => Kind::TextLists,
        _ => Kind::Other,
    }
}

impl Drop for ModelHandle {
    fn drop(&mut self) {
        // SAFETY: every instance holds an `Arc` of this handle, so nothing uses the model any more.
        unsafe { (self.engine.api.model_unload)(self.handle) }
    }
}

struct LoadedModel {
    handle: Arc<ModelHandle>,
    arguments: Vec<String>,
    kinds: Vec<Kind>,
    required: usize,
}

impl Model for LoadedModel {
    fn arguments(&self) -> &[String] {
        &self.arguments
    }

    fn kind(&self, index: usize) -> Kind {
        self.kinds.get(index).copied().unwrap_or(Kind::Other)
    }

    fn required(&self) -> usize {
        self.required
    }

    fn instance(&self, threads: usize) -> Result<Box<dyn Instance>, Error> {
        let mut handle = ptr::null_mut();
        let threads = u32::try_from(threads).unwrap_or(u32::MAX);
        let api = self.handle.engine.api;
        // SAFETY: the model is live and `handle` is writable.
        call(|error| unsafe { (api.instance_create)(self.handle.handle, threads, &raw mut handle, error) })?;
        Ok(Box::new(LoadedInstance { model: self.handle.clone(), handle, error: Box::default() }))
    }
}

/// Not `Send`: the raw pointer keeps it on its thread.
struct LoadedInstance {
    model: Arc<ModelHandle>,
    handle: *mut abi::Instance,
    /// For the calls of one batch after the other.
    error: Box<abi::Error>,
}

impl Drop for LoadedInstance {
    fn drop(&mut self) {
        // SAFETY: slots borrow the instance, so none is left.
        unsafe { (self.model.engine.api.instance_destroy)(self.handle) }
    }
}

impl Instance for LoadedInstance {
    fn slot(&mut self, inputs: &[Layout]) -> Result<Box<dyn Slot + '_>, Error> {
        let shapes: Vec<Vec<i64>> = inputs
            .iter()
            .map(|layout| layout.shape.iter().map(|length| i64::try_from(*length).unwrap_or(i64::MAX)).collect())
            .collect();
        let layouts: Vec<abi::Layout> = inputs
            .iter()
            .zip(&shapes)
            .map(|(layout, shape)| abi::Layout {
                dtype: layout.dtype.abi(),
                rank: u32::try_from(shape.len()).unwrap_or(u32::MAX),
                shape: shape.as_ptr(),
                bytes: layout.bytes,
            })
            .collect();
        let mut data = vec![ptr::null_mut(); inputs.len()];
        let mut handle = ptr::null_mut();
        let api = self.model.engine.api;
        // SAFETY: the layouts outlive the call, and `data` has as many places as there are inputs.
        call_with(&mut self.error, |error| unsafe {
            (api.slot_acquire)(self.handle, layouts.as_ptr(), layouts.len(), data.as_mut_ptr(), &raw mut handle, error)
        })?;
        let inputs = data.into_iter().zip(inputs.iter().map(|layout| layout.bytes)).collect();
        Ok(Box::new(LoadedSlot { api, handle, inputs, error: &mut self.error }))
    }

    fn rehearse(&mut self, trouble: Trouble) -> Result<(), Error> {
        let trouble = match trouble {
            Trouble::Hang => abi::trouble::HANG,
            Trouble::DeviceLost => abi::trouble::DEVICE_LOST,
        };
        let api = self.model.engine.api;
        // SAFETY: the instance is live and on its own thread.
        call(|error| unsafe { (api.rehearse)(self.handle, trouble, error) })
    }
}

struct LoadedSlot<'a> {
    api: &'static abi::Api,
    handle: *mut abi::Slot,
    /// The start and the length in bytes of each input.
    inputs: Vec<(*mut u8, usize)>,
    /// The instance's, which is nobody else's meanwhile.
    error: &'a mut abi::Error,
}

impl Drop for LoadedSlot<'_> {
    fn drop(&mut self) {
        // SAFETY: the handle is released once, here.
        unsafe { (self.api.slot_release)(self.handle) }
    }
}

impl Slot for LoadedSlot<'_> {
    fn input(&mut self, index: usize) -> &mut [u8] {
        let (data, bytes) = self.inputs[index];
        if bytes == 0 {
            return &mut [];
        }
        // SAFETY: the engine gave `bytes` writable bytes until `submit`, which consumes the slot. They are plain
        // numbers, so whatever they hold is a valid `u8`.
        unsafe { std::slice::from_raw_parts_mut(data, bytes) }
    }

    fn run(self: Box<Self>) -> Result<Outputs, Error> {
        let slot = self;
        let (api, handle) = (slot.api, slot.handle);
        // SAFETY: the slot is live and nobody else uses it.
        call_with(slot.error, |error| unsafe { (api.submit)(handle, error) })?;
        let (mut outputs, mut count) = (ptr::null(), 0);
        // SAFETY: as above; both places are writable.
        call_with(slot.error, |error| unsafe { (api.wait)(handle, &raw mut outputs, &raw mut count, error) })?;
        // SAFETY: the engine gave `count` outputs that live until the slot is released.
        (0..count).map(|index| unsafe { copy(&*outputs.add(index)) }).collect()
    }
}

/// # Safety
/// `output` and what it points into are readable.
unsafe fn copy(output: &abi::Output) -> Result<(Arc<str>, Tensor), Error> {
    // SAFETY: the caller's.
    let name: Arc<str> = unsafe { borrow(output.name) }.into();
    let layout = output.layout;
    let dtype = DType::from_abi(layout.dtype)
        .ok_or_else(|| Error::Failed(format!("output {name} has the unknown dtype {}", layout.dtype)))?;
    let shape: Vec<usize> = (0..layout.rank as usize)
        // SAFETY: the caller's; `shape` has `rank` elements.
        .map(|index| usize::try_from(unsafe { *layout.shape.add(index) }).unwrap_or(0))
        .collect();
    // SAFETY: the caller's; `data` has `bytes` bytes, and is only looked at where there are any.
    let bytes = if layout.bytes == 0 {
        Bytes::new()
    } else {
        Bytes::copy_from_slice(unsafe { std::slice::from_raw_parts(output.data, layout.bytes) })
    };
    if dtype == DType::Bytes {
        text::check(&bytes, shape.iter().product())
            .map_err(|error| Error::Failed(format!("output {name}: {error}")))?;
    }
    Ok((name, Tensor { dtype, shape, bytes }))
}
