//! The kinds that can be read, each with its Rust type. The schemas are those of the newest Kubernetes that k8s-openapi
//! knows, and of Flagger.

use std::any::Any;

use k8s_openapi::Resource;
use k8s_openapi::api::{
    admissionregistration::v1 as admission, apps::v1 as apps, autoscaling::v1 as autoscaling_v1,
    autoscaling::v2 as autoscaling, batch::v1 as batch, certificates::v1 as certificates,
    coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery, events::v1 as events,
    flowcontrol::v1 as flowcontrol, networking::v1 as networking, node::v1 as node, policy::v1 as policy,
    rbac::v1 as rbac, resource::v1 as resource, scheduling::v1 as scheduling, storage::v1 as storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as extensions;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as registration;
use schemars::generate::SchemaSettings;

use super::read::{self, Read};
use crate::flagger;

/// What can be done with objects of one kind.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) api_version: &'static str,
    pub(super) name: &'static str,
    pub(super) read: fn(serde_json::Value) -> Read,
    schema: fn() -> serde_json::Value,
}

impl Kind {
    pub(super) fn of(api_version: &str, name: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.api_version == api_version && kind.name == name)
    }

    /// The JSON schema, `$defs` and all. Costs a millisecond: ask once.
    pub(super) fn schema(&self) -> serde_json::Value {
        (self.schema)()
    }

    pub(super) fn all() -> impl Iterator<Item = &'static Kind> {
        KINDS.iter()
    }
}

fn schema<T: schemars::JsonSchema>() -> serde_json::Value {
    SchemaSettings::default().into_generator().into_root_schema_for::<T>().to_value()
}

fn read<T: serde::de::DeserializeOwned + Any + Send + Sync>(value: serde_json::Value) -> Read {
    read::typed::<T>(value)
}

macro_rules! kinds {
    ($($kind:ty),* $(,)?) => {
        static KINDS: &[Kind] = &[$(Kind {
            api_version: <$kind as Resource>::API_VERSION,
            name: <$kind as Resource>::KIND,
            read: read::<$kind>,
            schema: schema::<$kind>,
        }),*];
    };
}

kinds![
    admission::MutatingWebhookConfiguration,
    admission::ValidatingAdmissionPolicy,
    admission::ValidatingAdmissionPolicyBinding,
    admission::ValidatingWebhookConfiguration,
    apps::ControllerRevision,
    apps::DaemonSet,
    apps::Deployment,
    apps::ReplicaSet,
    apps::StatefulSet,
    autoscaling::HorizontalPodAutoscaler,
    autoscaling_v1::HorizontalPodAutoscaler,
    batch::CronJob,
    batch::Job,
    certificates::CertificateSigningRequest,
    coordination::Lease,
    core::ConfigMap,
    core::Endpoints,
    core::LimitRange,
    core::Namespace,
    core::Node,
    core::PersistentVolume,
    core::PersistentVolumeClaim,
    core::Pod,
    core::PodTemplate,
    core::ReplicationController,
    core::ResourceQuota,
    core::Secret,
    core::Service,
    core::ServiceAccount,
    discovery::EndpointSlice,
    events::Event,
    extensions::CustomResourceDefinition,
    flagger::Canary,
    flagger::MetricTemplate,
    flowcontrol::FlowSchema,
    flowcontrol::PriorityLevelConfiguration,
    networking::IPAddress,
    networking::Ingress,
    networking::IngressClass,
    networking::NetworkPolicy,
    networking::ServiceCIDR,
    node::RuntimeClass,
    policy::PodDisruptionBudget,
    rbac::ClusterRole,
    rbac::ClusterRoleBinding,
    rbac::Role,
    rbac::RoleBinding,
    registration::APIService,
    resource::DeviceClass,
    resource::ResourceClaim,
    resource::ResourceClaimTemplate,
    resource::ResourceSlice,
    scheduling::PriorityClass,
    storage::CSIDriver,
    storage::CSINode,
    storage::CSIStorageCapacity,
    storage::StorageClass,
    storage::VolumeAttachment,
    storage::VolumeAttributesClass,
];
