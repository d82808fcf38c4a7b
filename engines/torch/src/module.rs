//! Models through the shim: safe Rust around what `shim.cpp` exports.

use std::ffi::{CStr, CString, c_char, c_void};

use tch::Tensor;
use torch_sys::C_tensor;
use torchpod_abi::{Progress, argument};

/// What the shim had to say when a call failed.
pub(crate) enum Said {
    Error(String),
    Cancelled,
    /// The model's outputs cannot be served.
    Unfit(String),
}

/// One input of a forward: a tensor, or texts. Kept for the next batch, which is of the same type as a rule.
pub(crate) struct Input {
    /// In host memory; of texts, the bytes of their binary form.
    tensor: Tensor,
    /// c10's number; `None` for texts.
    scalar_type: Option<i32>,
    shape: Vec<i64>,
}

/// What to load, and how.
pub(crate) struct Options<'a> {
    pub(crate) path: &'a str,
    /// -1 is the CPU.
    pub(crate) cuda_index: i32,
    pub(crate) is_package: bool,
    /// c10's number of the type to compute floating-point numbers in, where the model is not to choose.
    pub(crate) precision: Option<i32>,
    pub(crate) channels_last: bool,
    /// How many instances may compute at the same time.
    pub(crate) instances: u32,
}

/// The same as the shim takes it.
#[repr(C)]
struct RawOptions {
    path: *const c_char,
    cuda_index: i32,
    is_package: bool,
    /// -1 for none.
    precision: i32,
    channels_last: bool,
    instances: u32,
}

/// An input as the shim takes it: `shape` is null for a tensor.
#[repr(C)]
pub(crate) struct RawInput {
    tensor: *mut C_tensor,
    shape: *const i64,
    rank: usize,
}

/// One output of a forward, contiguous and in host memory.
#[derive(Default)]
pub(crate) struct Emitted {
    pub(crate) name: String,
    /// Of texts, the bytes of their binary form. `None` once it has been read.
    tensor: Option<Tensor>,
    /// c10's number of the element type, since tch knows only some of them; `None` for texts.
    pub(crate) scalar_type: Option<i32>,
    pub(crate) shape: Vec<i64>,
    pub(crate) bytes: usize,
}

impl Emitted {
    pub(crate) fn data(&self) -> *const u8 {
        self.tensor.as_ref().map_or(std::ptr::null(), |tensor| tensor.data_ptr().cast())
    }
}

/// The outputs of a forward, whose names and shapes are written where the last one's stood.
#[derive(Default)]
pub(crate) struct Outputs {
    places: Vec<Emitted>,
    count: usize,
}

impl Outputs {
    pub(crate) fn emitted(&self) -> &[Emitted] {
        &self.places[..self.count]
    }

    /// Gives the tensors back.
    pub(crate) fn clear(&mut self) {
        self.places.iter_mut().for_each(|place| place.tensor = None);
        self.count = 0;
    }

    fn next(&mut self) -> &mut Emitted {
        if self.count == self.places.len() {
            self.places.push(Emitted::default());
        }
        self.count += 1;
        &mut self.places[self.count - 1]
    }
}

/// What the schema of forward says.
pub(crate) struct Arguments {
    /// Without `self`.
    pub(crate) names: Vec<String>,
    /// For each one of the ABI's [`argument`].
    pub(crate) kinds: Vec<u32>,
    /// How many, from the front, have no default.
    pub(crate) required: usize,
}

/// A loaded model of either form on its device (-1 is the CPU, otherwise a CUDA index).
pub(crate) struct Module {
    handle: *mut c_void,
    cuda_index: i32,
}

// SAFETY: a torch::jit::Module may be called from several threads at once once it is loaded: its executor locks itself. So
// may a package, by as many as it was loaded for: others wait.
unsafe impl Send for Module {}
// SAFETY: as above.
unsafe impl Sync for Module {}

type Say = unsafe extern "C" fn(context: *mut c_void, text: *const c_char, len: usize);
/// One argument's name, and whether it is a tensor (1), a list of texts (2), a list of such lists (3) or none of these.
type Argue = unsafe extern "C" fn(context: *mut c_void, name: *const c_char, len: usize, kind: u32);
type Emit = unsafe extern "C" fn(context: *mut c_void, name: *const c_char, len: usize, output: *const RawOutput);

/// An output as the shim gives it away.
#[repr(C)]
struct RawOutput {
    tensor: *mut C_tensor,
    /// -1 for texts.
    scalar_type: i32,
    shape: *const i64,
    rank: usize,
    bytes: usize,
}

unsafe extern "C" {
    fn tp_configure();
    fn tp_torch_version() -> *const c_char;
    fn tp_open_library(library: *const c_char, say: Say, context: *mut c_void) -> i32;
    fn tp_load(
        options: *const RawOptions,
        progress: Progress,
        progress_context: *mut c_void,
        module: *mut *mut c_void,
        say: Say,
        context: *mut c_void,
    ) -> i32;
    fn tp_unload(module: *mut c_void);
    fn tp_arguments(
        module: *mut c_void,
        argue: Argue,
        arguments: *mut c_void,
        required: *mut usize,
        say: Say,
        context: *mut c_void,
    ) -> i32;
    fn tp_lane_create(
        module: *const c_void,
        cuda_index: i32,
        lane: *mut *mut c_void,
        say: Say,
        context: *mut c_void,
    ) -> i32;
    fn tp_lane_destroy(lane: *mut c_void);
    fn tp_empty(
        lane: *const c_void,
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
        lane: *const c_void,
        inputs: *const RawInput,
        count: usize,
        emit: Emit,
        outputs: *mut c_void,
        say: Say,
        context: *mut c_void,
    ) -> i32;
    fn tp_reshape(tensor: *const C_tensor, scalar_type: i32, shape: *const i64, rank: usize) -> bool;
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

/// Where one instance's batches are copied and computed: on a CUDA device, a stream of its own.
pub(crate) struct Lane(*mut c_void);

impl Drop for Lane {
    fn drop(&mut self) {
        // SAFETY: it came from `tp_lane_create` and is freed once.
        unsafe { tp_lane_destroy(self.0) }
    }
}

/// c10's number for what texts lie in.
const BYTE: i32 = 0;

fn length(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// An uninitialised tensor in host memory: pinned, where the lane is a device's.
fn empty(lane: Option<&Lane>, scalar_type: i32, shape: &[i64]) -> Result<Tensor, Said> {
    let lane = lane.map_or(std::ptr::null(), |lane| lane.0.cast_const());
    let mut tensor = std::ptr::null_mut();
    // SAFETY: the lane is null or live, the shape outlives the call, and `tensor` is writable.
    checked(|say, error| unsafe {
        tp_empty(lane, scalar_type, shape.as_ptr(), shape.len(), &raw mut tensor, say, error)
    })?;
    // SAFETY: the shim gave the tensor away.
    Ok(unsafe { Tensor::from_ptr(tensor) })
}

impl Input {
    /// Uninitialised: a tensor of c10's type, or room for so many bytes of texts in their binary form.
    pub(crate) fn new(lane: &Lane, scalar_type: Option<i32>, shape: &[i64], bytes: usize) -> Result<Self, Said> {
        let tensor = match scalar_type {
            Some(scalar_type) => empty(Some(lane), scalar_type, shape)?,
            None => empty(None, BYTE, &[length(bytes)])?,
        };
        Ok(Self { tensor, scalar_type, shape: shape.to_vec() })
    }

    /// Becomes one to be written anew for such an input, if it can: unless the model has kept it.
    pub(crate) fn serves(&mut self, scalar_type: Option<i32>, shape: &[i64], bytes: usize) -> bool {
        let whole = [length(bytes)];
        let (kind, sizes) = scalar_type.map_or((BYTE, &whole[..]), |scalar_type| (scalar_type, shape));
        shape.clone_into(&mut self.shape);
        // SAFETY: the tensor is live, and the sizes outlive the call.
        let fits = unsafe { tp_reshape(self.tensor.as_ptr(), kind, sizes.as_ptr(), sizes.len()) };
        fits && self.scalar_type == scalar_type
    }

    /// The start of what is to be filled.
    pub(crate) fn data(&self) -> *mut u8 {
        self.tensor.data_ptr().cast()
    }

    fn raw(&mut self) -> RawInput {
        let tensor = self.tensor.as_mut_ptr();
        match self.scalar_type {
            Some(_) => RawInput { tensor, shape: std::ptr::null(), rank: 0 },
            None => RawInput { tensor, shape: self.shape.as_ptr(), rank: self.shape.len() },
        }
    }
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
    /// Reads the file, telling `progress` how far it is, and moves the model to its device.
    pub(crate) fn load(options: &Options<'_>, progress: Progress, context: *mut c_void) -> Result<Self, Said> {
        let path = CString::new(options.path).map_err(|_| Said::Error("a zero byte in the path".to_owned()))?;
        let raw = RawOptions {
            path: path.as_ptr(),
            cuda_index: options.cuda_index,
            is_package: options.is_package,
            precision: options.precision.unwrap_or(-1),
            channels_last: options.channels_last,
            instances: options.instances.max(1),
        };
        let mut handle = std::ptr::null_mut();
        // SAFETY: every pointer outlives the call; `progress` and `context` are the caller's pair.
        checked(|say, error| unsafe { tp_load(&raw const raw, progress, context, &raw mut handle, say, error) })?;
        Ok(Self { handle, cuda_index: options.cuda_index })
    }

    pub(crate) fn arguments(&self) -> Result<Arguments, Said> {
        let mut arguments = Arguments { names: Vec::new(), kinds: Vec::new(), required: 0 };
        let mut required = 0;
        // SAFETY: `handle` is a live module; `argue` expects `Arguments`, and `required` is writable.
        checked(|say, error| unsafe {
            tp_arguments(self.handle, argue, (&raw mut arguments).cast(), &raw mut required, say, error)
        })?;
        Ok(Arguments { required, ..arguments })
    }

    pub(crate) fn lane(&self) -> Result<Lane, Said> {
        let mut lane = std::ptr::null_mut();
        // SAFETY: `handle` is a live module, and the place is writable.
        checked(|say, error| unsafe { tp_lane_create(self.handle, self.cuda_index, &raw mut lane, say, error) })?;
        Ok(Lane(lane))
    }

    /// One forward in inference mode, whose outputs are in host memory when it returns. `raw` is scratch.
    pub(crate) fn forward(
        &self,
        lane: &Lane,
        inputs: &mut [Input],
        raw: &mut Vec<RawInput>,
        outputs: &mut Outputs,
    ) -> Result<(), Said> {
        raw.clear();
        raw.extend(inputs.iter_mut().map(Input::raw));
        outputs.clear();
        // SAFETY: `handle`, the lane and the tensors are live; `take` expects `Outputs`.
        checked(|say, error| unsafe {
            tp_forward(self.handle, lane.0, raw.as_ptr(), raw.len(), take, (&raw mut *outputs).cast(), say, error)
        })
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

/// Appends an argument to the `Arguments` behind `context`.
unsafe extern "C" fn argue(context: *mut c_void, name: *const c_char, len: usize, kind: u32) {
    // SAFETY: `arguments` passes live `Arguments`, and the shim `len` readable bytes.
    let (arguments, name) =
        unsafe { (&mut *context.cast::<Arguments>(), std::slice::from_raw_parts(name.cast::<u8>(), len)) };
    arguments.names.push(String::from_utf8_lossy(name).into_owned());
    arguments.kinds.push(match kind {
        1 => argument::TENSOR,
        2 => argument::TEXTS,
        3 => argument::TEXT_LISTS,
        _ => argument::OTHER,
    });
}

/// Puts an output into the `Outputs` behind `context` and takes the tensor over.
unsafe extern "C" fn take(context: *mut c_void, name: *const c_char, len: usize, output: *const RawOutput) {
    // SAFETY: `forward` passes live outputs, and the shim `len` readable bytes and an output whose tensor it gives away; a
    // shape has `rank` lengths, and is only looked at where there are any.
    let (outputs, name, output, shape, tensor) = unsafe {
        let output = &*output;
        let shape = if output.rank == 0 { &[] } else { std::slice::from_raw_parts(output.shape, output.rank) };
        let name = std::slice::from_raw_parts(name.cast::<u8>(), len);
        (&mut *context.cast::<Outputs>(), name, output, shape, Tensor::from_ptr(output.tensor))
    };
    let place = outputs.next();
    if place.name.as_bytes() != name {
        place.name = String::from_utf8_lossy(name).into_owned();
    }
    place.tensor = Some(tensor);
    place.scalar_type = Some(output.scalar_type).filter(|number| *number >= 0);
    place.shape.clear();
    place.shape.extend_from_slice(shape);
    place.bytes = output.bytes;
}
