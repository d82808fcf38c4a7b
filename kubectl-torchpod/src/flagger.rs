//! Flagger's kinds, as far as rules ask them. What Flagger hands on to a mesh (`spec.service`, `match`) is not looked
//! into; a custom resource's schema belongs to its CRD.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{NamespaceResourceScope, Resource};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// `flagger.app/v1beta1 Canary`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    pub api_version: String,
    pub kind: String,
    pub metadata: ObjectMeta,
    pub spec: CanarySpec,
    pub status: Option<Value>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanarySpec {
    pub provider: Option<String>,
    pub metrics_server: Option<String>,
    pub target_ref: Reference,
    pub autoscaler_ref: Option<Value>,
    pub ingress_ref: Option<Value>,
    pub route_ref: Option<Value>,
    pub upstream_ref: Option<Value>,
    pub service: Value,
    pub analysis: Option<Analysis>,
    pub canary_analysis: Option<Analysis>,
    pub progress_deadline_seconds: Option<i64>,
    pub skip_analysis: Option<bool>,
    pub revert_on_deletion: Option<bool>,
    pub suspend: Option<bool>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    pub api_version: Option<String>,
    pub kind: Option<String>,
    pub name: String,
    pub namespace: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    pub interval: Option<String>,
    pub threshold: Option<f64>,
    pub iterations: Option<f64>,
    pub max_weight: Option<f64>,
    pub step_weight: Option<f64>,
    pub step_weights: Option<Vec<f64>>,
    pub step_weight_promotion: Option<f64>,
    pub mirror: Option<bool>,
    pub mirror_weight: Option<f64>,
    pub primary_ready_threshold: Option<f64>,
    pub canary_ready_threshold: Option<f64>,
    pub session_affinity: Option<Value>,
    pub r#match: Option<Value>,
    pub alerts: Option<Value>,
    pub metrics: Option<Vec<Metric>>,
    pub webhooks: Option<Vec<Webhook>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    pub name: String,
    pub interval: Option<String>,
    /// Replaced by `thresholdRange`.
    pub threshold: Option<f64>,
    pub threshold_range: Option<Range>,
    /// Replaced by `templateRef`.
    pub query: Option<String>,
    pub template_ref: Option<Reference>,
    pub template_variables: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct Range {
    pub min: Option<f64>,
    pub max: Option<f64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    pub name: String,
    pub url: String,
    pub r#type: Option<String>,
    pub timeout: Option<String>,
    pub metadata: Option<BTreeMap<String, String>>,
    pub mute_alert: Option<bool>,
    pub retries: Option<i64>,
    #[serde(rename = "disableTLS")]
    pub disable_tls: Option<bool>,
}

/// `flagger.app/v1beta1 MetricTemplate`
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricTemplate {
    pub api_version: String,
    pub kind: String,
    pub metadata: ObjectMeta,
    pub spec: MetricTemplateSpec,
    pub status: Option<Value>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub struct MetricTemplateSpec {
    pub provider: Value,
    pub query: String,
}

impl Resource for Canary {
    const API_VERSION: &'static str = "flagger.app/v1beta1";
    const GROUP: &'static str = "flagger.app";
    const KIND: &'static str = "Canary";
    const VERSION: &'static str = "v1beta1";
    const URL_PATH_SEGMENT: &'static str = "canaries";
    type Scope = NamespaceResourceScope;
}

impl Resource for MetricTemplate {
    const API_VERSION: &'static str = "flagger.app/v1beta1";
    const GROUP: &'static str = "flagger.app";
    const KIND: &'static str = "MetricTemplate";
    const VERSION: &'static str = "v1beta1";
    const URL_PATH_SEGMENT: &'static str = "metrictemplates";
    type Scope = NamespaceResourceScope;
}
