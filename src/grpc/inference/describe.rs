//! What there is to know before an inference, in the protocol's messages.

use crate::api::describe::{self, BACKEND, Config, ConfigTensor, EXTENSIONS, PLATFORM, Signature};
use crate::batch::Handle;
use crate::batch::control::Entry;
use crate::batch::models::Table;
use crate::grpc::proto::model_instance_group::Kind;
use crate::grpc::proto::model_metadata_response::TensorMetadata;
use crate::grpc::proto::model_version_policy::{All, Latest, PolicyChoice, Specific};
use crate::grpc::proto::repository_index_response::ModelIndex;
use crate::grpc::proto::{
    DataType, InferBatchStatistics, InferStatistics, ModelConfig, ModelDynamicBatching, ModelInput, ModelInstanceGroup,
    ModelMetadataResponse, ModelOutput, ModelStatistics, ModelVersionPolicy, ServerMetadataResponse, StatisticDuration,
};
use crate::model::Version;
use crate::model::spec::Versions;
use crate::telemetry::statistics::Timing;

pub(super) fn server() -> ServerMetadataResponse {
    ServerMetadataResponse {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).into(),
    }
}

pub(super) fn model(table: &Table, model: &Handle) -> ModelMetadataResponse {
    let name = &model.version.name;
    let tensors = |tensors: Vec<describe::Tensor>| {
        let tensor = |tensor: describe::Tensor| TensorMetadata {
            name: tensor.name,
            datatype: tensor.datatype.to_owned(),
            shape: tensor.shape,
        };
        tensors.into_iter().map(tensor).collect()
    };
    let Signature { inputs, outputs } = Signature::of(&model.version);
    ModelMetadataResponse {
        name: name.clone(),
        versions: table.versions(name).iter().map(|handle| handle.version.version.clone()).collect(),
        platform: PLATFORM.to_owned(),
        inputs: tensors(inputs),
        outputs: tensors(outputs),
    }
}

pub(super) fn config(version: &Version) -> ModelConfig {
    let config = Config::of(version);
    let policy = match &version.spec.versions {
        Versions::Latest => PolicyChoice::Latest(Latest { num_versions: 1 }),
        Versions::All => PolicyChoice::All(All {}),
        Versions::Only { numbers, .. } => {
            let versions = numbers.iter().filter_map(|number| i64::try_from(*number).ok()).collect();
            PolicyChoice::Specific(Specific { versions })
        }
    };
    let small = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    let data_type = |tensor: &ConfigTensor| DataType::from_str_name(&tensor.data_type).unwrap_or_default().into();
    let input =
        |tensor: ConfigTensor| ModelInput { data_type: data_type(&tensor), name: tensor.name, dims: tensor.dims };
    let output =
        |tensor: ConfigTensor| ModelOutput { data_type: data_type(&tensor), name: tensor.name, dims: tensor.dims };
    let kind = if config.gpu.is_some() { Kind::Gpu } else { Kind::Cpu };
    let group = ModelInstanceGroup {
        name: version.name.clone(),
        count: small(config.instances),
        gpus: config.gpu.into_iter().map(small).collect(),
        kind: kind.into(),
    };
    let batching = ModelDynamicBatching { max_queue_delay_microseconds: config.max_queue_delay_micros };
    ModelConfig {
        name: version.name.clone(),
        platform: PLATFORM.to_owned(),
        version_policy: Some(ModelVersionPolicy { policy_choice: Some(policy) }),
        max_batch_size: small(config.max_batch_size),
        input: config.inputs.into_iter().map(input).collect(),
        output: config.outputs.into_iter().map(output).collect(),
        instance_group: vec![group],
        default_model_filename: "model.pt".to_owned(),
        dynamic_batching: (config.max_batch_size > 0).then_some(batching),
        backend: BACKEND.to_owned(),
    }
}

/// Computing is counted by the batch, everything else by the request. Copies in and out are part of computing.
pub(super) fn statistics(model: &Handle) -> ModelStatistics {
    let sums = model.metrics.statistics();
    let by_rows = sums.by_rows.iter().map(|(rows, took)| InferBatchStatistics {
        batch_size: *rows as u64,
        compute_input: Some(StatisticDuration::default()),
        compute_infer: Some(timing(*took)),
        compute_output: Some(StatisticDuration::default()),
    });
    ModelStatistics {
        name: model.version.name.clone(),
        version: model.version.version.clone(),
        last_inference: sums.last_inference_millis,
        inference_count: sums.rows,
        execution_count: sums.compute.count,
        inference_stats: Some(InferStatistics {
            success: Some(timing(sums.success)),
            fail: Some(timing(sums.fail)),
            queue: Some(timing(sums.queue)),
            compute_input: Some(StatisticDuration::default()),
            compute_infer: Some(timing(sums.compute)),
            compute_output: Some(StatisticDuration::default()),
            cache_hit: Some(StatisticDuration::default()),
            cache_miss: Some(StatisticDuration::default()),
        }),
        batch_stats: by_rows.collect(),
        memory_usage: Vec::new(),
    }
}

fn timing(Timing { count, nanos }: Timing) -> StatisticDuration {
    StatisticDuration { count, ns: nanos }
}

pub(super) fn index(entry: Entry) -> ModelIndex {
    let state = entry.state.name().to_owned();
    ModelIndex { name: entry.name, version: entry.version, state, reason: entry.reason }
}
