//! The kinds that this API server knows.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    ConfigMap, Event, LimitRange, Namespace, Node, Pod, ResourceQuota, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What this cluster does about the objects of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Deployment,
    ReplicaSet,
    Pod,
    Service,
    EndpointSlice,
    Node,
    Budget,
    /// It keeps them, and that is all.
    Record,
}

pub(crate) struct Resource {
    /// Group and plural: `apps/deployments`.
    pub(crate) id: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) short: &'static [&'static str],
    pub(crate) namespaced: bool,
    pub(crate) does: Kind,
    /// Its parts that have a path of their own, each with its group, version, kind and verbs.
    pub(crate) parts: &'static [Part],
    /// Reads an object into its type and back, so that only what has its place there is left.
    shape: fn(Value) -> serde_json::Result<Value>,
}

#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) verbs: &'static [&'static str],
}

const fn part(name: &'static str, of: [&'static str; 3], verbs: &'static [&'static str]) -> Part {
    Part { name, group: of[0], version: of[1], kind: of[2], verbs }
}

const CHANGED: &[&str] = &["get", "patch", "update"];
const SENT: &[&str] = &["create", "delete", "get", "patch", "update"];

const DEPLOYMENT_PARTS: [Part; 2] =
    [part("scale", ["autoscaling", "v1", "Scale"], CHANGED), part("status", ["apps", "v1", "Deployment"], CHANGED)];
const POD_PARTS: [Part; 4] = [
    part("eviction", ["policy", "v1", "Eviction"], &["create"]),
    part("log", ["", "v1", "Pod"], &["get"]),
    part("proxy", ["", "v1", "PodProxyOptions"], SENT),
    part("status", ["", "v1", "Pod"], &["get"]),
];
const SERVICE_PARTS: [Part; 2] =
    [part("proxy", ["", "v1", "ServiceProxyOptions"], SENT), part("status", ["", "v1", "Service"], &["get"])];

const DEPLOYMENT: Resource = Resource {
    id: "apps/deployments",
    version: "v1",
    kind: "Deployment",
    short: &["deploy"],
    namespaced: true,
    does: Kind::Deployment,
    parts: &DEPLOYMENT_PARTS,
    shape: shape::<Deployment>,
};

const fn record(
    id: &'static str,
    version: &'static str,
    kind: &'static str,
    shape: fn(Value) -> serde_json::Result<Value>,
) -> Resource {
    Resource { id, version, kind, short: &[], does: Kind::Record, parts: &[], shape, ..DEPLOYMENT }
}

pub(crate) static RESOURCES: [Resource; 17] = [
    DEPLOYMENT,
    Resource {
        short: &["rs"],
        does: Kind::ReplicaSet,
        ..record("apps/replicasets", "v1", "ReplicaSet", shape::<ReplicaSet>)
    },
    Resource { short: &["po"], does: Kind::Pod, parts: &POD_PARTS, ..record("/pods", "v1", "Pod", shape::<Pod>) },
    Resource {
        short: &["svc"],
        does: Kind::Service,
        parts: &SERVICE_PARTS,
        ..record("/services", "v1", "Service", shape::<Service>)
    },
    Resource {
        does: Kind::EndpointSlice,
        ..record("discovery.k8s.io/endpointslices", "v1", "EndpointSlice", shape::<EndpointSlice>)
    },
    Resource { short: &["no"], namespaced: false, does: Kind::Node, ..record("/nodes", "v1", "Node", shape::<Node>) },
    Resource {
        short: &["pdb"],
        does: Kind::Budget,
        ..record("policy/poddisruptionbudgets", "v1", "PodDisruptionBudget", shape::<PodDisruptionBudget>)
    },
    Resource { short: &["ns"], namespaced: false, ..record("/namespaces", "v1", "Namespace", shape::<Namespace>) },
    record("coordination.k8s.io/leases", "v1", "Lease", shape::<Lease>),
    Resource { short: &["sa"], ..record("/serviceaccounts", "v1", "ServiceAccount", shape::<ServiceAccount>) },
    Resource { short: &["cm"], ..record("/configmaps", "v1", "ConfigMap", shape::<ConfigMap>) },
    record("/secrets", "v1", "Secret", shape::<Secret>),
    Resource { short: &["ev"], ..record("/events", "v1", "Event", shape::<Event>) },
    Resource { short: &["limits"], ..record("/limitranges", "v1", "LimitRange", shape::<LimitRange>) },
    Resource { short: &["quota"], ..record("/resourcequotas", "v1", "ResourceQuota", shape::<ResourceQuota>) },
    Resource {
        short: &["hpa"],
        ..record(
            "autoscaling/horizontalpodautoscalers",
            "v2",
            "HorizontalPodAutoscaler",
            shape::<HorizontalPodAutoscaler>,
        )
    },
    Resource {
        short: &["netpol"],
        ..record("networking.k8s.io/networkpolicies", "v1", "NetworkPolicy", shape::<NetworkPolicy>)
    },
];

fn shape<T: Serialize + DeserializeOwned + Debug>(value: Value) -> serde_json::Result<Value> {
    serde_json::to_value(serde_json::from_value::<T>(value)?)
}

impl Resource {
    pub(crate) fn group(&self) -> &'static str {
        self.id.split_once('/').map_or("", |(group, _)| group)
    }

    pub(crate) fn plural(&self) -> &'static str {
        self.id.split_once('/').map_or("", |(_, plural)| plural)
    }

    /// `apps/v1`, or `v1` in the oldest group.
    pub(crate) fn api_version(&self) -> String {
        if self.group().is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group(), self.version) }
    }

    /// `deployments.apps`
    pub(crate) fn qualified(&self) -> String {
        if self.group().is_empty() { self.plural().to_owned() } else { format!("{}.{}", self.plural(), self.group()) }
    }

    /// `Deployment.apps`
    pub(crate) fn qualified_kind(&self) -> String {
        if self.group().is_empty() { self.kind.to_owned() } else { format!("{}.{}", self.kind, self.group()) }
    }

    /// What may be done to whole objects.
    pub(crate) fn verbs(&self) -> &'static [&'static str] {
        match self.does {
            Kind::ReplicaSet | Kind::EndpointSlice => &["get", "list", "watch"],
            Kind::Node => &["get", "list", "patch", "update", "watch"],
            Kind::Pod => &["delete", "get", "list", "patch", "update", "watch"],
            _ => &["create", "delete", "get", "list", "patch", "update", "watch"],
        }
    }

    /// By group, version and plural, as a path has them.
    pub(crate) fn at(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
        RESOURCES.iter().find(|one| (one.group(), one.version, one.plural()) == (group, version, plural))
    }

    /// By what an object says of itself.
    pub(crate) fn of(value: &Value) -> Option<&'static Resource> {
        let (version, kind) = (value["apiVersion"].as_str()?, value["kind"].as_str()?);
        RESOURCES.iter().find(|one| one.kind == kind && one.api_version() == version)
    }

    /// The object with what has its place in its type, or what is wrong with it.
    pub(crate) fn shaped(&self, value: Value) -> Result<Value, String> {
        (self.shape)(value).map_err(|error| {
            format!("{kind} in version \"{}\" cannot be handled as a {kind}: {error}", self.version, kind = self.kind)
        })
    }
}
