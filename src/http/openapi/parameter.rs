//! Parameters that several handlers take.

use utoipa::{IntoParams, ToSchema};

/// What a path names.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it only describes")]
pub(in crate::http) struct Named {
    /// A model's name.
    model: String,
    /// One of its versions.
    version: String,
}

/// What a request for a model may ask of its handling.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it only describes")]
pub(in crate::http) struct Wishes {
    /// How long the answer may take.
    #[param(rename = "X-Request-Timeout-Ms", minimum = 1, required = false)]
    timeout: u64,
    /// What Envoy tells of its own timeout; the shorter counts.
    #[param(rename = "x-envoy-expected-rq-timeout-ms", minimum = 1, required = false)]
    envoy_timeout: u64,
    /// Whether it can wait for others.
    #[param(rename = "torchpod-priority", inline, required = false)]
    priority: Priority,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it only describes")]
enum Priority {
    Normal,
    Low,
}
