//! The libtorch engine: TorchScript archives and AOTInductor packages on a CPU or a CUDA device, behind torchpod's engine
//! ABI.
//!
//! This crate is the only code that names tch. Every exported function turns panics and exceptions into an error class
//! and a message; see `torchpod-abi` for the contract.
#![allow(unsafe_code)]

mod device;
mod module;

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use torchpod_abi as abi;
use torchpod_abi::{Api, Error, Layout, Output, Text, class, dtype};

use module::{Arguments, Emitted, Input, Module, Options, Said};

static API: Api = Api {
    size: size_of::<Api>(),
    version: abi::VERSION,
    open,
    about,
    model_load,
    model_about,
    instance_create,
    slot_acquire,
    submit,
    wait,
    statistics,
    rehearse,
    slot_release,
    instance_destroy,
    model_unload,
    close,
};

/// The entry point that the server looks up.
#[unsafe(no_mangle)]
pub extern "C" fn torchpod_engine() -> *const Api {
    &raw const API
}

struct Engine {
    library: String,
    cuda: Result<u32, String>,
}

struct Model {
    module: Arc<Module>,
    arguments: Arguments,
    argument_texts: Vec<Text>,
}

struct Instance {
    module: Arc<Module>,
}

struct Slot {
    module: Arc<Module>,
    inputs: Vec<Input>,
    outputs: Vec<Produced>,
    views: Vec<Output>,
}

/// One output with everything that an [`Output`] points into.
struct Produced {
    emitted: Emitted,
    dtype: u32,
}

type Failure = (u32, String);

/// Sorts an error; where memory is what is missing, frees what libtorch keeps for later, for whoever comes next.
fn failure(said: &Said) -> Failure {
    let class = device::classify(said);
    if class == class::OUT_OF_MEMORY {
        module::empty_cache();
    }
    match said {
        Said::Error(text) | Said::Unfit(text) => (class, text.clone()),
        Said::Cancelled => (class, "cancelled".to_owned()),
    }
}

/// Runs `body`, keeps panics on this side, and writes a failure into `error`.
unsafe fn bordered(error: *mut Error, body: impl FnOnce() -> Result<(), Failure>) -> u32 {
    let (class, message) = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => return class::NONE,
        Ok(Err(failure)) => failure,
        Err(_) => (class::OTHER, "the engine panicked".to_owned()),
    };
    // SAFETY: the contract gives a writable error.
    unsafe { &mut *error }.set(class, &message);
    class
}

unsafe fn text<'a>(text: Text) -> &'a str {
    if text.len == 0 {
        return "";
    }
    // SAFETY: the contract gives `len` readable bytes.
    std::str::from_utf8(unsafe { std::slice::from_raw_parts(text.data, text.len) }).unwrap_or("")
}

unsafe extern "C" fn open(options: *const abi::OpenOptions, engine: *mut *mut abi::Engine, error: *mut Error) -> u32 {
    // SAFETY: the contract gives readable options and a writable place for the engine.
    unsafe {
        bordered(error, || {
            let cuda = if (*options).cuda == 0 {
                Err("not asked for".to_owned())
            } else {
                device::open_cuda(text((*options).library_dir))
            };
            // One operator at a time: instances are the parallelism.
            tch::set_num_interop_threads(1);
            module::configure();
            let library = format!("libtorch {}", module::torch_version());
            *engine = Box::into_raw(Box::new(Engine { library, cuda })).cast();
            Ok(())
        })
    }
}

unsafe extern "C" fn about(engine: *mut abi::Engine, about: *mut abi::About) {
    // SAFETY: the contract gives a live engine and a writable place.
    unsafe {
        let engine = &*engine.cast::<Engine>();
        *about = abi::About {
            name: Text::new("torch"),
            version: Text::new(env!("CARGO_PKG_VERSION")),
            library: Text::new(&engine.library),
            cuda_devices: *engine.cuda.as_ref().unwrap_or(&0),
            cuda_missing: Text::new(engine.cuda.as_ref().err().map_or("", String::as_str)),
        };
    }
}

unsafe extern "C" fn model_load(
    _engine: *mut abi::Engine,
    options: *const abi::LoadOptions,
    progress: abi::Progress,
    context: *mut c_void,
    model: *mut *mut abi::Model,
    error: *mut Error,
) -> u32 {
    // SAFETY: the contract gives readable options, a matching callback and context, and a writable place for the model.
    unsafe {
        bordered(error, || {
            let options = &*options;
            let options = Options {
                path: text(options.path),
                cuda_index: device::cuda_index(options.device),
                is_package: options.format == abi::format::AOTI,
                precision: scalar_type(options.precision),
                channels_last: options.channels_last != 0,
                instances: options.instances,
            };
            let module = Module::load(&options, progress, context).map_err(|said| failure(&said))?;
            let arguments = module.arguments().map_err(|said| failure(&said))?;
            let argument_texts = arguments.names.iter().map(|name| Text::new(name)).collect();
            let loaded = Model { module: Arc::new(module), arguments, argument_texts };
            *model = Box::into_raw(Box::new(loaded)).cast();
            Ok(())
        })
    }
}

unsafe extern "C" fn model_about(model: *mut abi::Model, about: *mut abi::ModelAbout) {
    // SAFETY: the contract gives a live model and a writable place.
    unsafe {
        let model = &*model.cast::<Model>();
        *about = abi::ModelAbout {
            arguments: model.argument_texts.as_ptr(),
            kinds: model.arguments.kinds.as_ptr(),
            argument_count: model.argument_texts.len(),
            required_count: model.arguments.required,
        };
    }
}

unsafe extern "C" fn instance_create(
    model: *mut abi::Model,
    threads: u32,
    instance: *mut *mut abi::Instance,
    error: *mut Error,
) -> u32 {
    // SAFETY: the contract gives a live model and a writable place for the instance.
    unsafe {
        bordered(error, || {
            tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
            let module = (*model.cast::<Model>()).module.clone();
            *instance = Box::into_raw(Box::new(Instance { module })).cast();
            Ok(())
        })
    }
}

unsafe extern "C" fn slot_acquire(
    instance: *mut abi::Instance,
    inputs: *const Layout,
    count: usize,
    data: *mut *mut u8,
    slot: *mut *mut abi::Slot,
    error: *mut Error,
) -> u32 {
    // SAFETY: the contract gives a live instance, `count` readable layouts and `count` writable places.
    unsafe {
        bordered(error, || {
            let mut acquired = Vec::with_capacity(count);
            for index in 0..count {
                let layout = &*inputs.add(index);
                let shape = std::slice::from_raw_parts(layout.shape, layout.rank as usize);
                let input = if layout.dtype == dtype::BYTES {
                    Input::texts(layout.bytes, shape)
                } else {
                    let scalar_type = scalar_type(layout.dtype)
                        .ok_or_else(|| (class::BAD_INPUT, format!("unknown dtype {}", layout.dtype)))?;
                    Input::tensor(scalar_type, shape)
                };
                let input = input.map_err(|said| failure(&said))?;
                *data.add(index) = input.data();
                acquired.push(input);
            }
            let module = (*instance.cast::<Instance>()).module.clone();
            let acquired = Slot { module, inputs: acquired, outputs: Vec::new(), views: Vec::new() };
            *slot = Box::into_raw(Box::new(acquired)).cast();
            Ok(())
        })
    }
}

unsafe extern "C" fn submit(slot: *mut abi::Slot, error: *mut Error) -> u32 {
    // SAFETY: the contract gives a live slot that no other thread uses.
    unsafe {
        bordered(error, || {
            let slot = &mut *slot.cast::<Slot>();
            let outputs = slot.module.forward(&mut slot.inputs).map_err(|said| failure(&said))?;
            slot.outputs = outputs.into_iter().map(Produced::new).collect::<Result<_, _>>()?;
            slot.views = slot.outputs.iter().map(Produced::view).collect();
            Ok(())
        })
    }
}

unsafe extern "C" fn wait(
    slot: *mut abi::Slot,
    outputs: *mut *const Output,
    count: *mut usize,
    _error: *mut Error,
) -> u32 {
    // `submit` copied the outputs to host memory, which waits for the device.
    // SAFETY: the contract gives a live slot and writable places.
    unsafe {
        let slot = &*slot.cast::<Slot>();
        *outputs = slot.views.as_ptr();
        *count = slot.views.len();
    }
    class::NONE
}

unsafe extern "C" fn statistics(_engine: *mut abi::Engine, device: abi::Device, statistics: *mut abi::Statistics) {
    let count = || module::statistics(device::cuda_index(device));
    let (allocated_bytes, reserved_bytes) = catch_unwind(count).unwrap_or_default();
    // SAFETY: the contract gives a writable place.
    unsafe { *statistics = abi::Statistics { allocated_bytes, reserved_bytes } }
}

unsafe extern "C" fn rehearse(instance: *mut abi::Instance, trouble: u32, error: *mut Error) -> u32 {
    // SAFETY: the contract gives a live instance.
    unsafe {
        bordered(error, || {
            let module = &(*instance.cast::<Instance>()).module;
            module.rehearse(trouble == abi::trouble::HANG).map_err(|said| failure(&said))
        })
    }
}

unsafe extern "C" fn slot_release(slot: *mut abi::Slot) {
    // SAFETY: the contract gives back what `slot_acquire` gave, once.
    unsafe { release::<Slot>(slot.cast()) }
}

unsafe extern "C" fn instance_destroy(instance: *mut abi::Instance) {
    // SAFETY: the contract gives back what `instance_create` gave, once.
    unsafe { release::<Instance>(instance.cast()) }
}

unsafe extern "C" fn model_unload(model: *mut abi::Model) {
    // SAFETY: the contract gives back what `model_load` gave, once.
    unsafe { release::<Model>(model.cast()) }
}

unsafe extern "C" fn close(engine: *mut abi::Engine) {
    // SAFETY: the contract gives back what `open` gave, once.
    unsafe { release::<Engine>(engine.cast()) }
}

unsafe fn release<T>(handle: *mut T) {
    // SAFETY: the caller's.
    let owned = unsafe { Box::from_raw(handle) };
    let _ = catch_unwind(AssertUnwindSafe(move || drop(owned)));
}

impl Produced {
    fn new(emitted: Emitted) -> Result<Self, Failure> {
        let dtype = match emitted.scalar_type {
            None => Some(dtype::BYTES),
            Some(scalar_type) => code(scalar_type),
        };
        let dtype = dtype.ok_or_else(|| {
            let message = format!("output {} is of a type that cannot be served: use float32 or int64", emitted.name);
            (class::UNFIT, message)
        })?;
        Ok(Self { emitted, dtype })
    }

    fn view(&self) -> Output {
        let emitted = &self.emitted;
        Output {
            name: Text::new(&emitted.name),
            layout: Layout {
                dtype: self.dtype,
                rank: u32::try_from(emitted.shape.len()).unwrap_or(0),
                shape: emitted.shape.as_ptr(),
                bytes: emitted.bytes,
            },
            data: emitted.tensor.data_ptr().cast(),
        }
    }
}

/// The ABI's element types and c10's numbers for them, which stand in every saved model (source: c10/core/ScalarType.h).
const SCALAR_TYPES: [(u32, i32); 13] = [
    (dtype::BOOL, 11),
    (dtype::UINT8, 0),
    (dtype::UINT16, 27),
    (dtype::UINT32, 28),
    (dtype::UINT64, 29),
    (dtype::INT8, 1),
    (dtype::INT16, 2),
    (dtype::INT32, 3),
    (dtype::INT64, 4),
    (dtype::FP16, 5),
    (dtype::BF16, 15),
    (dtype::FP32, 6),
    (dtype::FP64, 7),
];

fn scalar_type(code: u32) -> Option<i32> {
    SCALAR_TYPES.iter().find(|(known, _)| *known == code).map(|(_, scalar_type)| *scalar_type)
}

fn code(scalar_type: i32) -> Option<u32> {
    SCALAR_TYPES.iter().find(|(_, known)| *known == scalar_type).map(|(code, _)| *code)
}
