//! Values that an API server refuses although their type is right. A schema has no room for them, and the API's own
//! validation knows many more: here are those that people get wrong.

use super::node::{Node, Value};
use crate::quantity::Quantity;

/// What a field takes.
#[derive(Clone, Copy)]
enum Takes {
    OneOf(&'static [&'static str]),
    /// From the first number to the second.
    Range(i64, i64),
    /// A number, or a percentage as a text.
    Share,
}

use Takes::{OneOf, Range, Share};

const NATURAL: Takes = Range(0, i64::MAX);
const PORT: Takes = Range(1, 65_535);
const PROTOCOL: Takes = OneOf(&["SCTP", "TCP", "UDP"]);
const OPERATOR: Takes = OneOf(&["DoesNotExist", "Exists", "In", "NotIn"]);
const POLICY: Takes = OneOf(&["Cluster", "Local"]);
const UPDATE: Takes = OneOf(&["OnDelete", "RollingUpdate"]);
const RESTART: Takes = OneOf(&["Always", "Never", "OnFailure"]);

/// A definition of the schema without what all begin with, one of its fields, and what that takes.
const FIELDS: &[(&str, &str, Takes)] = &[
    ("api.apps.v1.DaemonSetUpdateStrategy", "type", UPDATE),
    ("api.apps.v1.DeploymentSpec", "minReadySeconds", NATURAL),
    ("api.apps.v1.DeploymentSpec", "progressDeadlineSeconds", NATURAL),
    ("api.apps.v1.DeploymentSpec", "replicas", NATURAL),
    ("api.apps.v1.DeploymentSpec", "revisionHistoryLimit", NATURAL),
    ("api.apps.v1.DeploymentStrategy", "type", OneOf(&["Recreate", "RollingUpdate"])),
    ("api.apps.v1.RollingUpdateDaemonSet", "maxSurge", Share),
    ("api.apps.v1.RollingUpdateDaemonSet", "maxUnavailable", Share),
    ("api.apps.v1.RollingUpdateDeployment", "maxSurge", Share),
    ("api.apps.v1.RollingUpdateDeployment", "maxUnavailable", Share),
    ("api.apps.v1.StatefulSetSpec", "podManagementPolicy", OneOf(&["OrderedReady", "Parallel"])),
    ("api.apps.v1.StatefulSetSpec", "replicas", NATURAL),
    ("api.apps.v1.StatefulSetUpdateStrategy", "type", UPDATE),
    ("api.autoscaling.v2.HPAScalingPolicy", "type", OneOf(&["Percent", "Pods"])),
    ("api.autoscaling.v2.HPAScalingRules", "selectPolicy", OneOf(&["Disabled", "Max", "Min"])),
    ("api.autoscaling.v2.HorizontalPodAutoscalerSpec", "maxReplicas", Range(1, i64::MAX)),
    ("api.autoscaling.v2.HorizontalPodAutoscalerSpec", "minReplicas", NATURAL),
    ("api.autoscaling.v2.MetricSpec", "type", OneOf(&["ContainerResource", "External", "Object", "Pods", "Resource"])),
    ("api.autoscaling.v2.MetricTarget", "type", OneOf(&["AverageValue", "Utilization", "Value"])),
    ("api.batch.v1.CronJobSpec", "concurrencyPolicy", OneOf(&["Allow", "Forbid", "Replace"])),
    ("api.core.v1.ClientIPConfig", "timeoutSeconds", Range(1, 86_400)),
    ("api.core.v1.Container", "imagePullPolicy", OneOf(&["Always", "IfNotPresent", "Never"])),
    ("api.core.v1.Container", "restartPolicy", RESTART),
    ("api.core.v1.ContainerPort", "containerPort", PORT),
    ("api.core.v1.ContainerPort", "protocol", PROTOCOL),
    ("api.core.v1.EmptyDirVolumeSource", "medium", OneOf(&["HugePages", "HugePages-1Gi", "HugePages-2Mi", "Memory"])),
    ("api.core.v1.HTTPGetAction", "scheme", OneOf(&["HTTP", "HTTPS"])),
    ("api.core.v1.LimitRangeItem", "type", OneOf(&["Container", "PersistentVolumeClaim", "Pod"])),
    ("api.core.v1.NodeSelectorRequirement", "operator", OneOf(&["DoesNotExist", "Exists", "Gt", "In", "Lt", "NotIn"])),
    (
        "api.core.v1.PersistentVolumeClaimSpec",
        "accessModes",
        OneOf(&["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"]),
    ),
    ("api.core.v1.PodSpec", "dnsPolicy", OneOf(&["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"])),
    ("api.core.v1.PodSpec", "restartPolicy", RESTART),
    ("api.core.v1.PodSpec", "terminationGracePeriodSeconds", NATURAL),
    ("api.core.v1.Probe", "failureThreshold", NATURAL),
    ("api.core.v1.Probe", "initialDelaySeconds", NATURAL),
    ("api.core.v1.Probe", "periodSeconds", NATURAL),
    ("api.core.v1.Probe", "successThreshold", NATURAL),
    ("api.core.v1.Probe", "timeoutSeconds", NATURAL),
    ("api.core.v1.SeccompProfile", "type", OneOf(&["Localhost", "RuntimeDefault", "Unconfined"])),
    ("api.core.v1.ServicePort", "port", PORT),
    ("api.core.v1.ServicePort", "protocol", PROTOCOL),
    ("api.core.v1.ServiceSpec", "externalTrafficPolicy", POLICY),
    ("api.core.v1.ServiceSpec", "internalTrafficPolicy", POLICY),
    ("api.core.v1.ServiceSpec", "ipFamilyPolicy", OneOf(&["PreferDualStack", "RequireDualStack", "SingleStack"])),
    ("api.core.v1.ServiceSpec", "sessionAffinity", OneOf(&["ClientIP", "None"])),
    ("api.core.v1.ServiceSpec", "trafficDistribution", OneOf(&["PreferClose", "PreferSameNode", "PreferSameZone"])),
    ("api.core.v1.ServiceSpec", "type", OneOf(&["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"])),
    ("api.core.v1.SleepAction", "seconds", NATURAL),
    ("api.core.v1.Toleration", "effect", OneOf(&["NoExecute", "NoSchedule", "PreferNoSchedule"])),
    ("api.core.v1.Toleration", "operator", OneOf(&["Equal", "Exists", "Gt", "Lt"])),
    ("api.core.v1.TopologySpreadConstraint", "maxSkew", Range(1, i64::MAX)),
    ("api.core.v1.TopologySpreadConstraint", "whenUnsatisfiable", OneOf(&["DoNotSchedule", "ScheduleAnyway"])),
    ("api.networking.v1.HTTPIngressPath", "pathType", OneOf(&["Exact", "ImplementationSpecific", "Prefix"])),
    ("api.networking.v1.NetworkPolicySpec", "policyTypes", OneOf(&["Egress", "Ingress"])),
    ("api.policy.v1.PodDisruptionBudgetSpec", "maxUnavailable", Share),
    ("api.policy.v1.PodDisruptionBudgetSpec", "minAvailable", Share),
    ("api.policy.v1.PodDisruptionBudgetSpec", "unhealthyPodEvictionPolicy", OneOf(&["AlwaysAllow", "IfHealthyBudget"])),
    ("api.rbac.v1.Subject", "kind", OneOf(&["Group", "ServiceAccount", "User"])),
    ("apimachinery.pkg.apis.meta.v1.LabelSelectorRequirement", "operator", OPERATOR),
    // Flagger's.
    (
        "Webhook",
        "type",
        OneOf(&[
            "confirm-promotion",
            "confirm-rollout",
            "confirm-traffic-increase",
            "event",
            "post-rollout",
            "pre-rollout",
            "rollback",
            "rollout",
        ]),
    ),
];

/// Why a field's value is refused; of several values, each of those with its place among them.
pub(super) fn refused(definition: &str, field: &str, node: &Node) -> Vec<(Option<usize>, String)> {
    let definition = definition.trim_start_matches("io.k8s.");
    let Some((_, _, takes)) = FIELDS.iter().find(|(of, name, _)| *of == definition && *name == field) else {
        return Vec::new();
    };
    match &node.value {
        Value::Seq(items) => {
            let all = items.iter().enumerate();
            all.filter_map(|(index, item)| Some((Some(index), why(*takes, &item.value)?))).collect()
        }
        value => why(*takes, value).map(|why| (None, why)).into_iter().collect(),
    }
}

/// Why an amount, such as `2GB`, is none.
pub(super) fn no_quantity(node: &Node) -> Option<String> {
    let text = match &node.value {
        Value::Text(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    Quantity::parse(&text).is_none().then(|| format!("{text:?} is no amount: one looks like 500m, 2, 512Mi or 16Gi"))
}

fn why(takes: Takes, value: &Value) -> Option<String> {
    match (takes, value) {
        // An empty text is as good as none.
        (OneOf(known), Value::Text(text)) if !text.is_empty() && !known.contains(&text.as_str()) => {
            Some(format!("{text:?} is none of {}", known.join(", ")))
        }
        (Range(least, most), Value::Number(number)) => match number.as_i64()? {
            small if small < least => Some(format!("{small} is below {least}")),
            large if large > most => Some(format!("{large} is above {most}")),
            _ => None,
        },
        (Share, Value::Text(text)) => {
            let percent = text.strip_suffix('%').and_then(|number| number.parse::<u32>().ok());
            percent.is_none().then(|| format!("{text:?} is neither a number nor a percentage such as 25%"))
        }
        (Share, Value::Number(number)) => {
            number.as_i64().filter(|number| *number < 0).map(|_| "it is below 0".to_owned())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_one_of_the_schema_of_some_kind() {
        let schemas: Vec<_> = super::super::kind::Kind::all().map(super::super::kind::Kind::schema).collect();
        for (definition, field, _) in FIELDS {
            let prefix = if definition.contains('.') { "io.k8s." } else { "" };
            let property = |schema: &&serde_json::Value| {
                let known = schema["$defs"].get(format!("{prefix}{definition}"));
                known.is_some_and(|known| known["properties"].get(field).is_some())
            };
            assert!(schemas.iter().find(property).is_some(), "{definition} {field}");
        }
    }

    #[test]
    fn numbers_texts_and_shares_are_held_against_what_is_taken() {
        let number = |number: i64| Value::Number(number.into());
        let text = |text: &str| Value::Text(text.to_owned());
        for (takes, value, fine) in [
            (PORT, number(65_535), true),
            (PORT, number(0), false),
            (NATURAL, number(-1), false),
            (NATURAL, Value::Null, true),
            (PROTOCOL, text("TCP"), true),
            (PROTOCOL, text("tcp"), false),
            (PROTOCOL, text(""), true),
            (Share, number(3), true),
            (Share, text("25%"), true),
            (Share, text("3"), false),
            (Share, number(-3), false),
        ] {
            assert_eq!(why(takes, &value).is_none(), fine, "{value:?}");
        }
    }
}
