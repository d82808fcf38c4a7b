//! What clients may know of a model before they ask it anything: the inference protocol's metadata and configuration, in
//! words that both of its forms share.

use crate::engine::Device;
use crate::model::Version;
use crate::model::spec::Port;
use crate::tensor::DType;

/// How the protocol calls a TorchScript model.
pub const PLATFORM: &str = "pytorch_libtorch";
/// The name of its backend.
pub const BACKEND: &str = "pytorch";
/// What the server does beyond the protocol's core, by the names that Triton gave it.
pub const EXTENSIONS: [&str; 6] = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
];

/// A tensor that a model takes or gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    pub name: String,
    /// The protocol's name; empty where the model takes whatever comes.
    pub datatype: &'static str,
    /// -1 stands for any length; the first length is the batch.
    pub shape: Vec<i64>,
}

/// A model's inputs and outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub inputs: Vec<Tensor>,
    /// As the `model.toml` says or the warm-up has shown; empty where neither tells.
    pub outputs: Vec<Tensor>,
}

impl Signature {
    pub fn of(version: &Version) -> Self {
        let inputs = version.spec.inputs.iter().map(tensor).collect();
        let outputs = match version.spec.outputs.as_slice() {
            [] => version
                .proof()
                .outputs
                .into_iter()
                .map(|(name, layout)| {
                    let lengths = layout.shape.iter().skip(1).map(|length| length_of(Some(*length)));
                    Tensor { name, datatype: layout.dtype.name(), shape: std::iter::once(-1).chain(lengths).collect() }
                })
                .collect(),
            described => described.iter().map(|output| tensor(&output.port)).collect(),
        };
        Self { inputs, outputs }
    }
}

fn tensor(port: &Port) -> Tensor {
    let shape = match port.dtype {
        Some(_) => port.shape.iter().copied().map(length_of).collect(),
        None => vec![-1],
    };
    Tensor { name: port.name.clone(), datatype: port.dtype.map_or("", DType::name), shape }
}

fn length_of(length: Option<usize>) -> i64 {
    length.and_then(|length| i64::try_from(length).ok()).unwrap_or(-1)
}

/// How a model is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// In rows; 0 where requests do not share a batch. Where it is not 0, the dimensions of inputs and outputs are those of
    /// one row.
    pub max_batch_size: usize,
    /// How long a batch waits for more, in microseconds.
    pub max_queue_delay_micros: u64,
    pub instances: usize,
    /// The GPU, or none.
    pub gpu: Option<usize>,
    pub inputs: Vec<ConfigTensor>,
    pub outputs: Vec<ConfigTensor>,
}

/// An input or output, as a configuration describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigTensor {
    pub name: String,
    /// Such as `TYPE_FP32`.
    pub data_type: String,
    pub dims: Vec<i64>,
}

impl Config {
    pub fn of(version: &Version) -> Self {
        let (spec, Signature { inputs, outputs }) = (&version.spec, Signature::of(version));
        let batches = version.row_wise();
        let tensors = |tensors: Vec<Tensor>| tensors.into_iter().map(|tensor| config_tensor(tensor, batches)).collect();
        Self {
            max_batch_size: if batches { spec.max_size } else { 0 },
            max_queue_delay_micros: u64::try_from(spec.max_delay.as_micros()).unwrap_or(u64::MAX),
            instances: spec.instances,
            gpu: match version.device {
                Device::Cuda(index) => Some(index as usize),
                Device::Cpu => None,
            },
            inputs: tensors(inputs),
            outputs: tensors(outputs),
        }
    }
}

fn config_tensor(tensor: Tensor, batches: bool) -> ConfigTensor {
    // The configuration calls texts by another name than the rest of the protocol.
    let data_type = match tensor.datatype {
        "" => "TYPE_INVALID".to_owned(),
        "BYTES" => "TYPE_STRING".to_owned(),
        name => format!("TYPE_{name}"),
    };
    ConfigTensor { name: tensor.name, data_type, dims: tensor.shape.into_iter().skip(usize::from(batches)).collect() }
}
