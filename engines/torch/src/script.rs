//! TorchScript through the shim: safe Rust around what `shim.cpp` exports.

use std::ffi::{CStr, CString, c_char, c_void};

use tch::Tensor;
use torch_sys::C_tensor;
use torchpod_abi::Progress;

/// What the shim had to say when a call failed.
pub(crate) enum Said {
    Error(String),
    Cancelled,
    /// The model's outputs cannot be served.
    Unfit(String),
}

/// One output of a forward, contiguous and in host memory.
pub(crate) struct Emitted {
    pub(crate) name: String,
    pub(crate) tensor: Tensor,
    /// c10's number of the element type, since tch knows only some of them.
    pub(crate) scalar_type: i32,
    pub(crate) bytes: usize,
}

/// What the schema of forward says.
pub(crate) struct Arguments {
    /// Without `self`.
    pub(crate) names: Vec<String>,
    /// How many, from the front, have no default.
    pub(crate) required: usize,
}

/// A loaded TorchScript module on its device (-1 is the CPU, otherwise a CUDA index).
pub(crate) struct Module {
    handle: *mut c_void,
    cuda_index: i32,
}

// SAFETY: a torch::jit::Module may be called from several threads at once once it is loaded; its executor locks itself.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

type Say = unsafe extern "C" fn(context: *mut c_void, text: *const c_char, len: usize);
type Emit = unsafe extern "C" fn(
    context: *mut c_void,
    name: *const c_char,
    len: usize,
    tensor: *mut C_tensor,
    scalar_type: i32,
    bytes: usize,
);

unsafe extern "C" {
    fn tp_configure();
    fn tp_torch_version() -> *const c_char;
    fn tp_open_library(library: *const c_char, say: Say, context: *mut c_void) -> i32;
    fn tp_load(
        path: *const c_char,
        cuda_index: i32,
        progress: Progress,
        progress_context: *mut c_void,
        module: *mut *mut c_void,
        say: Say,
        context: *mut c_void,
    ) -> i32;
    fn tp_unload(module: *mut c_void);
    fn tp_arguments(
        module: *mut c_void,
        name: Say,
        names: *mut c_void,
        required: *mut usize,
        say: Say,
        context: *mut c_void,
    ) -> i32;
    fn tp_empty(
        scalar_type: i32,
        shape: *const i64,
        rank: usize,
        tensor: *mut *mut C_tensor,
        say: Say,
        context: *mut c_void,
    ) -> i32;
    fn tp_statistics(cuda_index: i32, allocated: *mut u64, reserved: *mut u64, say: Say, context: *mut c_void) -> i32;
    fn tp_empty_cache(say: Say, context: *mut c_void) -> i32;
    fn tp_forward(
        module: *mut c_void,
        cuda_index: i32,
        inputs: *const *mut C_tensor,
        count: usize,
        emit: Emit,
        outputs: *mut c_void,
        say: Say,
        context: *mut c_void,
    ) -> i32;
    fn tp_rehearse(cuda_index: i32, hang: bool, say: Say, context: *mut c_void) -> i32;
}

/// Sets libtorch's process-wide switches, once, before any model is loaded.
pub(crate) fn configure() {
    // SAFETY: the shim only writes libtorch's own settings.
    unsafe { tp_configure() }
}

pub(crate) fn torch_version() -> &'static str {
    // SAFETY: the shim returns a string literal.
    unsafe { CStr::from_ptr(tp_torch_version()) }.to_str().unwrap_or("unknown")
}

pub(crate) fn open_library(path: &str) -> Result<(), String> {
    let path = CString::new(path).map_err(|_| "a zero byte in the library's path".to_owned())?;
    // SAFETY: `path` outlives the call, and `checked` passes a context that `collect` understands.
    checked(|say, context| unsafe { tp_open_library(path.as_ptr(), say, context) }).map_err(|said| match said {
        Said::Error(text) | Said::Unfit(text) => text,
        Said::Cancelled => String::new(),
    })
}

/// An uninitialised tensor in host memory.
pub(crate) fn empty(scalar_type: i32, shape: &[i64]) -> Result<Tensor, Said> {
    let mut tensor = std::ptr::null_mut();
    // SAFETY: the shape outlives the call, and `tensor` is writable.
    checked(|say, error| unsafe { tp_empty(scalar_type, shape.as_ptr(), shape.len(), &raw mut tensor, say, error) })?;
    // SAFETY: the shim gave the tensor away.
    Ok(unsafe { Tensor::from_ptr(tensor) })
}

/// Bytes allocated and reserved on a CUDA device; zeros where that is not known.
pub(crate) fn statistics(cuda_index: i32) -> (u64, u64) {
    let (mut allocated, mut reserved) = (0, 0);
    // SAFETY: both places are writable.
    let counted =
        checked(|say, error| unsafe { tp_statistics(cuda_index, &raw mut allocated, &raw mut reserved, say, error) });
    counted.map_or((0, 0), |()| (allocated, reserved))
}

/// Gives the accelerator's cached memory back, as far as there is an accelerator.
pub(crate) fn empty_cache() {
    // SAFETY: the shim only calls libtorch's allocator. That it failed changes nothing for whoever wants memory next.
    let _ = checked(|say, error| unsafe { tp_empty_cache(say, error) });
}

impl Module {
    /// Reads the archive at `path`, telling `progress` how far it is, and moves it to its device.
    pub(crate) fn load(path: &str, cuda_index: i32, progress: Progress, context: *mut c_void) -> Result<Self, Said> {
        let path = CString::new(path).map_err(|_| Said::Error("a zero byte in the path".to_owned()))?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: every pointer outlives the call; `progress` and `context` are the caller's pair.
        checked(|say, error| unsafe {
            tp_load(path.as_ptr(), cuda_index, progress, context, &raw mut handle, say, error)
        })?;
        Ok(Self { handle, cuda_index })
    }

    pub(crate) fn arguments(&self) -> Result<Arguments, Said> {
        let mut names: Vec<String> = Vec::new();
        let mut required = 0;
        // SAFETY: `handle` is a live module; `collect` expects a `Vec<String>`, and `required` is writable.
        checked(|say, error| unsafe {
            tp_arguments(self.handle, collect, (&raw mut names).cast(), &raw mut required, say, error)
        })?;
        Ok(Arguments { names, required })
    }

    /// One forward in inference mode.
    pub(crate) fn forward(&self, inputs: &mut [Tensor]) -> Result<Vec<Emitted>, Said> {
        let inputs: Vec<*mut C_tensor> = inputs.iter_mut().map(Tensor::as_mut_ptr).collect();
        let mut outputs: Vec<Emitted> = Vec::new();
        // SAFETY: `handle` and the tensors are live; `take` expects a `Vec<Emitted>`.
        checked(|say, error| unsafe {
            tp_forward(
                self.handle,
                self.cuda_index,
                inputs.as_ptr(),
                inputs.len(),
                take,
                (&raw mut outputs).cast(),
                say,
                error,
            )
        })?;
        Ok(outputs)
    }
}

impl Module {
    /// Loops in TorchScript for ever, or else loses the module's device.
    pub(crate) fn rehearse(&self, hang: bool) -> Result<(), Said> {
        // SAFETY: the shim only makes tensors and a module of its own.
        checked(|say, error| unsafe { tp_rehearse(self.cuda_index, hang, say, error) })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: `handle` came from `tp_load` and is freed once.
        unsafe { tp_unload(self.handle) }
    }
}

/// Runs one shim call that reports its error through `Say`.
fn checked(call: impl FnOnce(Say, *mut c_void) -> i32) -> Result<(), Said> {
    let mut said: Vec<String> = Vec::new();
    let code = call(collect, (&raw mut said).cast());
    let text = said.pop().unwrap_or_else(|| "no reason given".to_owned());
    match code {
        0 => Ok(()),
        2 => Err(Said::Cancelled),
        3 => Err(Said::Unfit(text)),
        _ => Err(Said::Error(text)),
    }
}

/// Appends a text to the `Vec<String>` behind `context`.
unsafe extern "C" fn collect(context: *mut c_void, text: *const c_char, len: usize) {
    // SAFETY: every caller in this file passes a live `Vec<String>`, and the shim `len` readable bytes.
    let (texts, bytes) =
        unsafe { (&mut *context.cast::<Vec<String>>(), std::slice::from_raw_parts(text.cast::<u8>(), len)) };
    texts.push(String::from_utf8_lossy(bytes).into_owned());
}

/// Appends an output to the `Vec<Emitted>` behind `context` and takes the tensor over.
unsafe extern "C" fn take(
    context: *mut c_void,
    name: *const c_char,
    len: usize,
    tensor: *mut C_tensor,
    scalar_type: i32,
    bytes: usize,
) {
    // SAFETY: `forward` passes a live vector, and the shim `len` readable bytes and a tensor that it gives away.
    let (outputs, name, tensor) = unsafe {
        (
            &mut *context.cast::<Vec<Emitted>>(),
            std::slice::from_raw_parts(name.cast::<u8>(), len),
            Tensor::from_ptr(tensor),
        )
    };
    outputs.push(Emitted { name: String::from_utf8_lossy(name).into_owned(), tensor, scalar_type, bytes });
}
