//! The protocol's bodies as types: those that tell of models are written from them, predictions are only described by them.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
#[schema(as = v1::Models)]
pub(super) struct Models {
    pub(super) models: Vec<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = v1::Model)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) ready: bool,
    #[allow(clippy::struct_field_names)] // The protocol's.
    pub(super) model_version_status: Vec<Available>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = v1::Version)]
pub(super) struct Available {
    pub(super) version: String,
    pub(super) state: &'static str,
    pub(super) status: Status,
}

#[derive(Serialize, ToSchema)]
#[schema(as = v1::Status)]
pub(super) struct Status {
    pub(super) error_code: &'static str,
    pub(super) error_message: &'static str,
}

/// One of both.
#[derive(ToSchema)]
#[schema(as = v1::Request)]
#[serde(untagged)]
#[expect(dead_code, reason = "it only describes what `request` reads")]
pub(super) enum Request {
    Rows {
        /// Rows: an object that names its values, or the value itself where the model has one input.
        instances: Vec<Value>,
    },
    Columns {
        /// All rows: an object by name, or the values themselves where the model has one input.
        inputs: Value,
    },
}

/// In the form of the request.
#[derive(ToSchema)]
#[schema(as = v1::Answer)]
#[serde(untagged)]
#[expect(dead_code, reason = "it only describes what `answer` writes")]
pub(super) enum Answer {
    Rows { predictions: Vec<Value> },
    Columns { outputs: Value },
}
