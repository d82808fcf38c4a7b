//! What the server asks of an engine, and nothing of how one does it.
//!
//! `loader` finds a shared object and speaks to it through the C ABI; tests of batching bring an engine of their own.

pub mod loader;
mod raised;

use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::tensor::{DType, Tensor};

/// An opened engine.
pub trait Engine: Send + Sync {
    fn about(&self) -> &About;

    /// The memory that the engine holds on `device`, in bytes; 0 where it does not know.
    fn memory(&self, _device: Device) -> u64 {
        0
    }

    /// Reads a model and moves it to its device. `progress` hears the bytes read and the bytes in all.
    fn load(&self, source: &Source<'_>, progress: &mut dyn FnMut(u64, u64)) -> Result<Box<dyn Model>, Error>;
}

/// A model's file, and what to make of it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub path: &'a Path,
    pub format: Format,
    pub device: Device,
    /// What a script computes its floating-point numbers in; `None` leaves it to the model.
    pub precision: Option<DType>,
    /// Whether a script keeps its images' channels last.
    pub channels_last: bool,
    /// How many instances will compute at the same time.
    pub instances: usize,
}

impl<'a> Source<'a> {
    /// One instance of what the file's name says that it is, computed as it is.
    pub fn of(path: &'a Path, device: Device) -> Self {
        Self { path, format: Format::named(path), device, precision: None, channels_last: false, instances: 1 }
    }
}

/// What a model's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A TorchScript archive.
    Script,
    /// A package of machine code that `AOTInductor` compiled.
    Aoti,
}

impl Format {
    /// What a file of this name should be.
    pub fn named(path: &Path) -> Self {
        if path.extension().is_some_and(|ending| ending == "pt2") { Self::Aoti } else { Self::Script }
    }

    /// As `model.toml` writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Script => "torchscript",
            Self::Aoti => "aoti",
        }
    }
}

/// What an argument of a model is, as far as its file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tensor,
    /// One text a row: BYTES of shape `[-1]` or `[-1, 1]`.
    Texts,
    /// A list of texts a row: BYTES of shape `[-1, n]`.
    TextLists,
    Other,
}

/// A loaded model, shared by its instances.
pub trait Model: Send + Sync {
    /// The names of its inputs, as far as the engine can tell: of a package, none.
    fn arguments(&self) -> &[String];

    /// What the argument `index` is.
    fn kind(&self, _index: usize) -> Kind {
        Kind::Tensor
    }

    /// How many of them, from the front, must be given; the others have defaults.
    fn required(&self) -> usize {
        self.arguments().len()
    }

    /// An instance for the calling thread, which will compute with `threads` intra-op threads.
    fn instance(&self, threads: usize) -> Result<Box<dyn Instance>, Error>;
}

/// One batch at a time, on one thread: the instance never leaves the thread that made it.
pub trait Instance {
    /// Host memory for one batch of inputs with these layouts.
    fn slot(&mut self, inputs: &[Layout]) -> Result<Box<dyn Slot + '_>, Error>;

    /// Gets into trouble, in earnest.
    fn rehearse(&mut self, trouble: Trouble) -> Result<(), Error>;
}

/// What an engine can be asked to suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Computes and never returns.
    Hang,
    /// Fails with [`Error::DeviceLost`].
    DeviceLost,
}

/// What a model returns: its outputs by name. Requests of one batch share the names.
pub type Outputs = Vec<(Arc<str>, Tensor)>;

/// One batch: fill its inputs, then run it.
pub trait Slot {
    /// The writable bytes of input `index`: row-major, little-endian, zeroed or not.
    fn input(&mut self, index: usize) -> &mut [u8];

    /// Computes. The outputs are in host memory.
    fn run(self: Box<Self>) -> Result<Outputs, Error>;
}

/// A dense tensor's type and shape, and the bytes of all its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub bytes: usize,
}

impl Layout {
    /// That of elements which all have the same size; of BYTES, `None`.
    pub fn new(dtype: DType, shape: Vec<usize>) -> Option<Self> {
        let bytes = shape.iter().product::<usize>() * dtype.size()?;
        Some(Self { dtype, shape, bytes })
    }

    pub fn of(tensor: &Tensor) -> Self {
        Self { dtype: tensor.dtype, shape: tensor.shape.clone(), bytes: tensor.bytes.len() }
    }

    /// That of ranges of rows of tensors whose rows are alike, put together; there must be one.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = (&'a Tensor, Range<usize>)>) -> Option<Self> {
        let mut whole: Option<Self> = None;
        for (tensor, rows) in parts {
            let whole = whole.get_or_insert_with(|| {
                let mut shape = tensor.shape.clone();
                shape[0] = 0;
                Self { dtype: tensor.dtype, shape, bytes: 0 }
            });
            whole.shape[0] += rows.len();
            whole.bytes += tensor.row_bytes(rows).len();
        }
        whole
    }
}

/// Where a model computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Cpu,
    Cuda(u32),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// Where models should compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA where there is a device, else the CPU.
    Auto,
    Cpu,
    Cuda(u32),
}

impl std::str::FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" | "" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| format!("{text}: expected auto, cpu, cuda or cuda:0")),
        }
    }
}

/// What an engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    pub name: String,
    pub version: String,
    /// The tensor library and its version, e.g. `libtorch 2.11.0`.
    pub library: String,
    pub cuda_devices: u32,
    /// Why there are no CUDA devices; empty where there are some.
    pub cuda_missing: String,
}

/// Why an engine could not do what it was asked, in the classes that callers treat differently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the engine {missing}: {hint}")]
    Missing { missing: String, hint: String },
    #[error("{0}")]
    BadInput(String),
    #[error("out of memory: {0}")]
    OutOfMemory(String),
    #[error("device lost: {0}")]
    DeviceLost(String),
    /// What the model returns cannot be served. The text is fit for clients.
    #[error("{0}")]
    Unfit(String),
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// The line that matters: TorchScript wraps it in a trace of the model's code, and C++ appends one of its own.
    pub fn gist(&self) -> String {
        let text = self.to_string();
        // What libtorch says of code that it cannot compile begins with an empty line.
        let gist = raised::line(&text).or_else(|| text.trim_start().lines().next()).unwrap_or_default();
        gist.trim_end_matches('.').to_owned()
    }

    /// What a client may read of it: one sentence, without a path, a backtrace or C++ text.
    pub fn told(&self) -> String {
        match self {
            Self::Unfit(text) | Self::BadInput(text) => text.clone(),
            Self::OutOfMemory(_) => "the model ran out of memory on this batch".to_owned(),
            Self::Failed(text) => raised::told(text).map_or_else(
                || "the model failed on this batch".to_owned(),
                |said| format!("the model raised: {said}"),
            ),
            _ => "the model failed on this batch".to_owned(),
        }
    }
}
