//! The C ABI between the server and an engine.
//!
//! An engine is a shared object that exports [`SYMBOL`], a function of type [`Entry`] that returns one table of
//! functions. The table carries its own size and version, so that a server refuses an engine it cannot speak to. No
//! Rust type, exception or panic crosses the border; memory is freed by the side that allocated it.
//!
//! The order of calls: `open`, then `model_load` per model, `instance_create` per worker thread, and for every batch
//! `slot_acquire`, `submit`, `wait`, `slot_release`. An instance and its slots belong to the thread that created them;
//! everything else may be called from any thread.

use std::ffi::{CStr, c_void};

/// Raised with every change of this file that an older server or engine would misread.
pub const VERSION: u32 = 5;

/// What an engine exports.
pub const SYMBOL: &CStr = c"torchpod_engine";

/// The type of [`SYMBOL`]. The table lives as long as the library.
pub type Entry = unsafe extern "C" fn() -> *const Api;

/// UTF-8, borrowed, without a terminating zero. `data` may be null when `len` is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Text {
    pub data: *const u8,
    pub len: usize,
}

impl Text {
    pub fn new(text: &str) -> Self {
        Self { data: text.as_ptr(), len: text.len() }
    }
}

/// Handles that only the engine can look into.
#[repr(C)]
pub struct Engine {
    _private: [u8; 0],
}
#[repr(C)]
pub struct Model {
    _private: [u8; 0],
}
#[repr(C)]
pub struct Instance {
    _private: [u8; 0],
}
#[repr(C)]
pub struct Slot {
    _private: [u8; 0],
}

/// What went wrong, in the classes that the server treats differently.
pub mod class {
    pub const NONE: u32 = 0;
    /// The inputs do not fit the model: the caller's fault.
    pub const BAD_INPUT: u32 = 1;
    /// Not enough memory for this call; a smaller one may succeed.
    pub const OUT_OF_MEMORY: u32 = 2;
    /// The device is lost: every later call fails, and the process must be replaced.
    pub const DEVICE_LOST: u32 = 3;
    /// The progress callback asked to stop.
    pub const CANCELLED: u32 = 4;
    pub const OTHER: u32 = 5;
    /// What the model returns cannot be served: the message says so in words that anybody may read.
    pub const UNFIT: u32 = 6;
}

/// An error, written by the engine into memory that the caller owns. A longer message loses its middle.
#[repr(C)]
pub struct Error {
    /// One of [`class`].
    pub class: u32,
    pub len: u32,
    pub message: [u8; 4096],
}

impl Default for Error {
    fn default() -> Self {
        Self { class: class::NONE, len: 0, message: [0; 4096] }
    }
}

impl Error {
    /// Keeps the head and the tail of a message that is too long: TorchScript's reason comes last, after its trace.
    pub fn set(&mut self, class: u32, message: &str) {
        let half = self.message.len() / 2;
        let cut: String;
        let message = if message.len() <= self.message.len() {
            message
        } else {
            let head = &message[..message.floor_char_boundary(half)];
            let tail = &message[message.ceil_char_boundary(message.len() - half + 8)..];
            cut = format!("{head} … {tail}");
            &cut
        };
        let len = message.len();
        self.message[..len].copy_from_slice(message.as_bytes());
        self.len = u32::try_from(len).unwrap_or(0);
        self.class = class;
    }

    pub fn message(&self) -> String {
        let len = (self.len as usize).min(self.message.len());
        String::from_utf8_lossy(&self.message[..len]).into_owned()
    }
}

/// Where a model lives.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    pub kind: u32,
    pub index: u32,
}

impl Device {
    pub const CPU: u32 = 0;
    pub const CUDA: u32 = 1;
}

/// What a model's file is.
pub mod format {
    /// A TorchScript archive.
    pub const SCRIPT: u32 = 1;
    /// A package of machine code that `AOTInductor` compiled. What it is fed must be of the types and shapes that it was
    /// compiled for: it looks at none of them itself.
    pub const AOTI: u32 = 2;
}

/// What to load, and how. Whatever is 0 is as the model's file has it.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    pub path: Text,
    pub device: Device,
    /// One of [`format`].
    pub format: u32,
    /// [`dtype::FP16`] or [`dtype::BF16`] compute in that type whatever the model computes in floating-point numbers.
    /// Inputs and outputs keep their types. Of a script only.
    pub precision: u32,
    /// 1 keeps weights and inputs of four dimensions with their channels last. Of a script only.
    pub channels_last: u32,
    /// How many instances may compute at the same time.
    pub instances: u32,
}

/// Element types, numbered for this border alone.
pub mod dtype {
    pub const BOOL: u32 = 1;
    pub const UINT8: u32 = 2;
    pub const UINT16: u32 = 3;
    pub const UINT32: u32 = 4;
    pub const UINT64: u32 = 5;
    pub const INT8: u32 = 6;
    pub const INT16: u32 = 7;
    pub const INT32: u32 = 8;
    pub const INT64: u32 = 9;
    pub const FP16: u32 = 10;
    pub const BF16: u32 = 11;
    pub const FP32: u32 = 12;
    pub const FP64: u32 = 13;
    /// Texts. Each element is its length, four little-endian bytes, and that many bytes of any values.
    pub const BYTES: u32 = 14;
}

/// A dense, row-major tensor's type and shape. `shape` has `rank` elements; `bytes` is what all elements take, which only
/// for `BYTES` does not follow from the rest.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub dtype: u32,
    pub rank: u32,
    pub shape: *const i64,
    pub bytes: usize,
}

/// One result of a batch: its name, its layout and its data in host memory, valid until the slot is released.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Output {
    pub name: Text,
    pub layout: Layout,
    pub data: *const u8,
}

/// What an engine says of itself. The texts live as long as the engine.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct About {
    pub name: Text,
    pub version: Text,
    /// The tensor library's name and version, e.g. `libtorch 2.11.0`.
    pub library: Text,
    pub cuda_devices: u32,
    /// Why `cuda_devices` is 0; empty otherwise.
    pub cuda_missing: Text,
}

/// What a model's file says of itself: of a package, nothing. The texts live as long as the model.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ModelAbout {
    pub arguments: *const Text,
    /// For each argument one of [`argument`].
    pub kinds: *const u32,
    pub argument_count: usize,
    /// How many of them, from the front, have no default and must be given.
    pub required_count: usize,
}

/// What an argument of a model is.
pub mod argument {
    /// Something else, or nobody knows.
    pub const OTHER: u32 = 0;
    pub const TENSOR: u32 = 1;
    /// A list of texts, one a row: an input of type `BYTES` and shape `[n]` or `[n, 1]`.
    pub const TEXTS: u32 = 2;
    /// A list of lists of texts, one list a row: an input of type `BYTES` and shape `[n, m]`.
    pub const TEXT_LISTS: u32 = 3;
}

/// An engine's memory on one device, in bytes; 0 where the engine does not know.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Statistics {
    pub allocated_bytes: u64,
    pub reserved_bytes: u64,
}

/// Trouble that an engine can be asked for, so that people can rehearse it.
pub mod trouble {
    /// The call computes and never returns.
    pub const HANG: u32 = 1;
    /// The call fails as if the device were lost; on a CUDA device, it is.
    pub const DEVICE_LOST: u32 = 2;
}

/// How to open an engine.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// The folder that holds the tensor library's own `lib` folder; empty for where the engine was built against it.
    pub library_dir: Text,
    /// 0: leave CUDA alone even where it is present.
    pub cuda: u32,
}

/// Called with the bytes read so far and in all; returns 0 to give up.
pub type Progress = unsafe extern "C" fn(context: *mut c_void, read: u64, total: u64) -> u32;

/// The table. Every function that returns `u32` returns a [`class`] and has filled `error` unless it is `NONE`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Api {
    /// `size_of::<Api>()` as the engine was compiled.
    pub size: usize,
    /// [`VERSION`] as the engine was compiled.
    pub version: u32,
    pub open: unsafe extern "C" fn(*const OpenOptions, engine: *mut *mut Engine, error: *mut Error) -> u32,
    pub about: unsafe extern "C" fn(*mut Engine, *mut About),
    pub model_load: unsafe extern "C" fn(
        *mut Engine,
        options: *const LoadOptions,
        progress: Progress,
        context: *mut c_void,
        model: *mut *mut Model,
        error: *mut Error,
    ) -> u32,
    pub model_about: unsafe extern "C" fn(*mut Model, *mut ModelAbout),
    /// `threads` is the number of intra-op threads that the calling thread will use.
    pub instance_create:
        unsafe extern "C" fn(*mut Model, threads: u32, instance: *mut *mut Instance, error: *mut Error) -> u32,
    /// Reserves host memory for one batch. `inputs` and `data` have `count` elements; `data[i]` becomes the writable,
    /// uninitialised start of input `i`, of as many bytes as its layout says, valid until `submit`.
    pub slot_acquire: unsafe extern "C" fn(
        *mut Instance,
        inputs: *const Layout,
        count: usize,
        data: *mut *mut u8,
        slot: *mut *mut Slot,
        error: *mut Error,
    ) -> u32,
    /// Starts the computation; may also finish it.
    pub submit: unsafe extern "C" fn(*mut Slot, error: *mut Error) -> u32,
    /// Blocks until the results are in host memory.
    pub wait: unsafe extern "C" fn(*mut Slot, outputs: *mut *const Output, count: *mut usize, error: *mut Error) -> u32,
    pub statistics: unsafe extern "C" fn(*mut Engine, Device, *mut Statistics),
    /// Gets the instance into one of [`trouble`], in earnest.
    pub rehearse: unsafe extern "C" fn(*mut Instance, trouble: u32, error: *mut Error) -> u32,
    pub slot_release: unsafe extern "C" fn(*mut Slot),
    pub instance_destroy: unsafe extern "C" fn(*mut Instance),
    pub model_unload: unsafe extern "C" fn(*mut Model),
    pub close: unsafe extern "C" fn(*mut Engine),
}

// The table only holds function pointers and numbers.
const _: () = {
    const fn assert_sync<T: Sync + Send>() {}
    assert_sync::<Api>();
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_is_too_long_keeps_its_head_and_its_tail() {
        let mut error = Error::default();
        error.set(class::OTHER, &format!("head{}RuntimeError: tail", "é".repeat(5000)));
        let kept = error.message();
        assert!(kept.starts_with("head") && kept.ends_with("RuntimeError: tail") && kept.len() > 4000, "{kept}");
        error.set(class::OTHER, "short");
        assert_eq!(error.message(), "short");
    }
}
