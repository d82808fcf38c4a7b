//! The libtorch engine: TorchScript archives and `AOTInductor` packages on a CPU or a CUDA device, behind torchpod's engine
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

use module::{Arguments, Emitted, Input, Lane, Module, Options, Outputs, RawInput, Said};

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

/// It and its slots belong to one thread.
struct Instance {
    /// What was released, for the next batch.
    #[allow(clippy::vec_box)] // They go out as pointers, and come back as the same.
    spare: Vec<Box<Slot>>,
    lane: Lane,
    /// Gone last: what the others have held is given back to the device with it.
    module: Arc<Module>,
}

struct Slot {
    /// Outlives its slots.
    instance: *mut Instance,
    inputs: Vec<Input>,
    outputs: Outputs,
    views: Vec<Output>,
    scratch: Vec<RawInput>,
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
            let lane = module.lane().map_err(|said| failure(&said))?;
            *instance = Box::into_raw(Box::new(Instance { spare: Vec::new(), lane, module })).cast();
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
            let instance = instance.cast::<Instance>();
            let mut acquired = (*instance).spare.pop().unwrap_or_else(|| Box::new(Slot::of(instance)));
            acquired.inputs.truncate(count);
            for index in 0..count {
                let layout = &*inputs.add(index);
                let shape = match layout.rank {
                    0 => &[],
                    rank => std::slice::from_raw_parts(layout.shape, rank as usize),
                };
                *data.add(index) = acquired.input(&(*instance).lane, index, layout, shape)?;
            }
            *slot = Box::into_raw(acquired).cast();
            Ok(())
        })
    }
}

unsafe extern "C" fn submit(slot: *mut abi::Slot, error: *mut Error) -> u32 {
    // SAFETY: the contract gives a live slot that no other thread uses.
    unsafe {
        bordered(error, || {
            let Slot { instance, inputs, outputs, views, scratch } = &mut *slot.cast::<Slot>();
            let Instance { module, lane, .. } = &**instance;
            module.forward(lane, inputs, scratch, outputs).map_err(|said| failure(&said))?;
            views.clear();
            for emitted in outputs.emitted() {
                views.push(view(emitted)?);
            }
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
    // `submit` has waited for the device.
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
    // SAFETY: the contract gives back what `slot_acquire` gave, once, on the thread of its instance, which is live.
    let put_back = AssertUnwindSafe(|| unsafe {
        let mut slot = Box::from_raw(slot.cast::<Slot>());
        slot.views.clear();
        slot.outputs.clear();
        let instance = slot.instance;
        (*instance).spare.push(slot);
    });
    let _ = catch_unwind(put_back);
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

impl Slot {
    fn of(instance: *mut Instance) -> Self {
        let (inputs, outputs, views, scratch) = (Vec::new(), Outputs::default(), Vec::new(), Vec::new());
        Self { instance, inputs, outputs, views, scratch }
    }

    /// The start of an input of this layout: that of the last batch, where it has room.
    fn input(&mut self, lane: &Lane, index: usize, layout: &Layout, shape: &[i64]) -> Result<*mut u8, Failure> {
        let scalar_type = match layout.dtype {
            dtype::BYTES => None,
            known => Some(scalar_type(known).ok_or_else(|| (class::BAD_INPUT, format!("unknown dtype {known}")))?),
        };
        if !self.inputs.get_mut(index).is_some_and(|input| input.serves(scalar_type, shape, layout.bytes)) {
            // What was there makes room first.
            self.inputs.truncate(index);
            self.inputs.push(Input::new(lane, scalar_type, shape, layout.bytes).map_err(|said| failure(&said))?);
        }
        Ok(self.inputs[index].data())
    }
}

/// How the server sees an output.
fn view(emitted: &Emitted) -> Result<Output, Failure> {
    let dtype = match emitted.scalar_type {
        None => Some(dtype::BYTES),
        Some(scalar_type) => code(scalar_type),
    };
    let dtype = dtype.ok_or_else(|| {
        let message = format!("output {} is of a type that cannot be served: use float32 or int64", emitted.name);
        (class::UNFIT, message)
    })?;
    let rank = u32::try_from(emitted.shape.len()).unwrap_or(0);
    let layout = Layout { dtype, rank, shape: emitted.shape.as_ptr(), bytes: emitted.bytes };
    Ok(Output { name: Text::new(&emitted.name), layout, data: emitted.data() })
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
