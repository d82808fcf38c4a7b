//! What a client may do, where its rights are limited: the rules of a Role.

use axum::http::Method;
use k8s_openapi::api::rbac::v1::PolicyRule;

use super::request::{Asking, Target};
use crate::object::Problem;

/// Whether one of the rules allows a request.
pub(super) fn check(rules: &[PolicyRule], target: &Target, asking: &Asking) -> Result<(), Problem> {
    let (resource, verb) = (target.resource, verb(target, asking));
    let plural = match &target.part {
        Some(part) => format!("{}/{part}", resource.plural()),
        None => resource.plural().to_owned(),
    };
    let names = |all: &Option<Vec<String>>, one: &str| all.iter().flatten().any(|name| name == one || name == "*");
    let allows = |rule: &PolicyRule| {
        let only = rule.resource_names.as_ref().filter(|all| !all.is_empty());
        rule.verbs.iter().any(|one| one == verb || one == "*")
            && names(&rule.api_groups, resource.group())
            && names(&rule.resources, &plural)
            && only.is_none_or(|all| target.name.as_ref().is_some_and(|name| all.contains(name)))
    };
    if rules.iter().any(allows) {
        return Ok(());
    }
    let name = target.name.as_ref().map(|name| format!(" \"{name}\"")).unwrap_or_default();
    let place = match &target.namespace {
        Some(namespace) => format!("in the namespace \"{namespace}\""),
        None => "at the cluster scope".to_owned(),
    };
    Err(Problem::Forbidden(format!(
        "{}{name} is forbidden: User \"loopback\" cannot {verb} resource \"{plural}\" in API group \"{}\" {place}",
        resource.qualified(),
        resource.group(),
    )))
}

fn verb(target: &Target, asking: &Asking) -> &'static str {
    match (&asking.method, &target.name) {
        (&Method::GET, None) if asking.watches() => "watch",
        (&Method::GET, None) => "list",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, None) => "deletecollection",
        (&Method::DELETE, _) => "delete",
        _ => "get",
    }
}
