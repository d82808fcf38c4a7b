//! The protocol's bodies as types: those that tell of models are written from them, inference's are only described by
//! them, since `request` and `answer` read and write tensors without going through types.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::api::describe::{self, ConfigTensor};
use crate::telemetry::statistics::{Snapshot, Timing};

#[derive(Serialize, ToSchema)]
#[schema(as = v2::Server)]
pub(super) struct Server {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    #[schema(value_type = Vec<String>)]
    pub(super) extensions: &'static [&'static str],
}

#[derive(Serialize, ToSchema)]
#[schema(as = v2::Live)]
pub(super) struct Live {
    pub(super) live: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = v2::Ready)]
pub(super) struct Ready {
    pub(super) ready: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = v2::ModelReady)]
pub(super) struct ModelReady {
    pub(super) name: String,
    pub(super) ready: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = v2::Model)]
pub(super) struct Model {
    pub(super) name: String,
    /// Those that serve.
    pub(super) versions: Vec<String>,
    pub(super) platform: &'static str,
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Vec<Tensor>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = v2::TensorDescription)]
pub(super) struct Tensor {
    pub(super) name: String,
    /// Empty where nothing says it.
    pub(super) datatype: &'static str,
    /// -1 where any length will do.
    pub(super) shape: Vec<i64>,
}

impl From<describe::Tensor> for Tensor {
    fn from(tensor: describe::Tensor) -> Self {
        Self { name: tensor.name, datatype: tensor.datatype, shape: tensor.shape }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = v2::Config)]
pub(super) struct Config {
    pub(super) name: String,
    pub(super) platform: &'static str,
    pub(super) backend: &'static str,
    pub(super) runtime: &'static str,
    /// `latest`, `all`, or `specific` with numbers.
    pub(super) version_policy: Map<String, Value>,
    /// 0 where requests are computed one at a time.
    pub(super) max_batch_size: usize,
    pub(super) input: Vec<ConfigPort>,
    pub(super) output: Vec<ConfigPort>,
    pub(super) instance_group: [InstanceGroup; 1],
    pub(super) default_model_filename: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) dynamic_batching: Option<DynamicBatching>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = v2::ConfigTensor)]
pub(super) struct ConfigPort {
    pub(super) name: String,
    pub(super) data_type: String,
    pub(super) dims: Vec<i64>,
}

impl From<ConfigTensor> for ConfigPort {
    fn from(tensor: ConfigTensor) -> Self {
        Self { name: tensor.name, data_type: tensor.data_type, dims: tensor.dims }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = v2::InstanceGroup)]
pub(super) struct InstanceGroup {
    pub(super) name: String,
    pub(super) kind: &'static str,
    pub(super) count: usize,
    pub(super) gpus: Vec<usize>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = v2::DynamicBatching)]
pub(super) struct DynamicBatching {
    pub(super) max_queue_delay_microseconds: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = v2::AllStatistics)]
pub(super) struct AllStatistics {
    pub(super) model_stats: Vec<Statistics>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = v2::Statistics)]
pub(super) struct Statistics {
    pub(super) name: String,
    pub(super) version: String,
    /// Milliseconds since 1970.
    pub(super) last_inference: u64,
    /// Rows.
    pub(super) inference_count: u64,
    /// Batches.
    pub(super) execution_count: u64,
    pub(super) inference_stats: InferenceStatistics,
    pub(super) batch_stats: Vec<BatchStatistics>,
    #[schema(value_type = Vec<Object>)]
    pub(super) memory_usage: [(); 0],
}

#[derive(Serialize, ToSchema)]
#[schema(as = v2::InferenceStatistics)]
pub(super) struct InferenceStatistics {
    success: Sum,
    fail: Sum,
    queue: Sum,
    compute_input: Sum,
    compute_infer: Sum,
    compute_output: Sum,
    cache_hit: Sum,
    cache_miss: Sum,
}

impl From<&Snapshot> for InferenceStatistics {
    /// Computing is counted by the batch, everything else by the request. Copies in and out are part of computing.
    fn from(sums: &Snapshot) -> Self {
        let none = Sum::from(Timing::default());
        Self {
            success: sums.success.into(),
            fail: sums.fail.into(),
            queue: sums.queue.into(),
            compute_input: none,
            compute_infer: sums.compute.into(),
            compute_output: none,
            cache_hit: none,
            cache_miss: none,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = v2::BatchStatistics)]
pub(super) struct BatchStatistics {
    batch_size: usize,
    compute_input: Sum,
    compute_infer: Sum,
    compute_output: Sum,
}

impl BatchStatistics {
    pub(super) fn of(rows: usize, took: Timing) -> Self {
        let none = Sum::from(Timing::default());
        Self { batch_size: rows, compute_input: none, compute_infer: took.into(), compute_output: none }
    }
}

#[derive(Clone, Copy, Serialize, ToSchema)]
#[schema(as = v2::Sum)]
pub(super) struct Sum {
    count: u64,
    ns: u64,
}

impl From<Timing> for Sum {
    fn from(timing: Timing) -> Self {
        Self { count: timing.count, ns: timing.nanos }
    }
}

#[derive(ToSchema)]
#[schema(as = v2::InferRequest)]
#[expect(dead_code, reason = "it only describes what `request` reads")]
pub(super) struct InferRequest {
    /// Comes back with the answer.
    id: Option<String>,
    /// `timeout` in microseconds, `priority`, `binary_data_output`.
    parameters: Option<Map<String, Value>>,
    inputs: Vec<InferInput>,
    /// All of them where there are none.
    outputs: Option<Vec<InferWish>>,
}

#[derive(ToSchema)]
#[schema(as = v2::InferInput)]
#[expect(dead_code, reason = "it only describes what `request` reads")]
struct InferInput {
    name: String,
    #[schema(example = "FP32")]
    datatype: String,
    shape: Vec<i64>,
    /// `binary_data_size`: as many bytes behind the JSON, in place of `data`.
    parameters: Option<Map<String, Value>>,
    /// Flat or nested.
    data: Option<Value>,
}

#[derive(ToSchema)]
#[schema(as = v2::InferWish)]
#[expect(dead_code, reason = "it only describes what `request` reads")]
struct InferWish {
    name: String,
    /// `binary_data`, `classification`.
    parameters: Option<Map<String, Value>>,
}

#[derive(ToSchema)]
#[schema(as = v2::InferAnswer)]
#[expect(dead_code, reason = "it only describes what `answer` writes")]
pub(super) struct InferAnswer {
    #[schema(required = false, nullable = false)]
    id: Option<String>,
    model_name: String,
    model_version: String,
    outputs: Vec<InferOutput>,
}

#[derive(ToSchema)]
#[schema(as = v2::InferOutput)]
#[expect(dead_code, reason = "it only describes what `answer` writes")]
struct InferOutput {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    /// `binary_data_size`, in place of `data`.
    #[schema(required = false, nullable = false)]
    parameters: Option<Map<String, Value>>,
    /// Flat, row by row; texts where classes were asked for.
    #[schema(required = false, nullable = false)]
    data: Option<Vec<Value>>,
}
