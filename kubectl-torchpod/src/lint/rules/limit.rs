//! `LimitRange`: what it gives to containers that say nothing, and whom it refuses.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use k8s_openapi::apimachinery::pkg::api::resource;

use crate::cluster::{Container, Workload};
use crate::lint::finding::Found;
use crate::lint::rule::{Context, rules};
use crate::quantity::Quantity;

rules! {
    "limit-range-refuses-pod", Error, refuses_pod,
        "The namespace's LimitRange refuses the pod: the Deployment is accepted, and its pods never come",
        "Keep requests above its min and limits below its max, or change the range";
    "limit-range-contradicts-itself", Error, contradicts_itself,
        "An API server refuses a LimitRange whose min, defaultRequest, default and max do not rise in this order",
        "Order them: min ≤ defaultRequest ≤ default ≤ max";
}

type Amounts = Option<BTreeMap<String, resource::Quantity>>;

/// What a `LimitRange` of a workload's namespace says of containers.
pub(super) fn ranges<'a>(
    context: &'a Context<'_>,
    workload: &'a Workload<'_>,
) -> impl Iterator<Item = &'a LimitRangeItem> {
    let here = context.cluster.all::<LimitRange>().filter(|(object, _)| object.namespace == workload.object.namespace);
    let items = here.filter_map(|(_, range)| range.spec.as_ref()).flat_map(|spec| &spec.limits);
    items.filter(|item| item.type_ == "Container")
}

fn amount(amounts: &Amounts, name: &str) -> Option<Quantity> {
    Quantity::of(amounts.as_ref()?.get(name)?)
}

/// Request and limit of a resource after the defaults have been filled in.
pub(super) fn filled(
    context: &Context<'_>,
    container: &Container<'_>,
    name: &str,
) -> (Option<Quantity>, Option<Quantity>) {
    let (request, limit) =
        (container.request(name).and_then(Quantity::parse), container.limit(name).and_then(Quantity::parse));
    let default = |of: fn(&LimitRangeItem) -> &Amounts| {
        ranges(context, container.workload).find_map(|item| amount(of(item), name))
    };
    let limit_default = || default(|item| &item.default).or_else(|| default(|item| &item.max));
    let request_default =
        || default(|item| &item.default_request).or_else(limit_default).or_else(|| default(|item| &item.min));
    // A limit of the container's own is its request, before any default is.
    let request = request.or(limit).or_else(request_default);
    (request, limit.or_else(limit_default))
}

fn refuses_pod(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for container in context.cluster.all_containers() {
        for item in ranges(context, container.workload) {
            let names = item.min.iter().chain(&item.max).flat_map(|amounts| amounts.keys());
            let refused = names.filter_map(|name| refusal(context, &container, item, name));
            found.extend(refused.map(|what| Found::at(&container.place.key("resources"), what)));
        }
    }
    found
}

fn refusal(context: &Context<'_>, container: &Container<'_>, item: &LimitRangeItem, name: &str) -> Option<String> {
    let (request, limit) = filled(context, container, name);
    let (min, max) = (amount(&item.min, name), amount(&item.max, name));
    let container = &container.spec.name;
    if let Some((request, min)) = request.zip(min).filter(|(request, min)| request < min) {
        return Some(format!("{container} requests {request} of {name}, and the least is {min}"));
    }
    if let Some((limit, max)) = limit.zip(max).filter(|(limit, max)| limit > max) {
        return Some(format!("{container} has a limit of {limit} of {name}, and the most is {max}"));
    }
    let (request, limit) = request.zip(limit).filter(|(request, limit)| request > limit)?;
    Some(format!("{container} requests {request} of {name}, above its limit of {limit} by default"))
}

fn contradicts_itself(context: &Context<'_>) -> Vec<Found> {
    let mut found = Vec::new();
    for (object, range) in context.cluster.all::<LimitRange>() {
        for (index, item) in range.spec.iter().flat_map(|spec| &spec.limits).enumerate() {
            let rising = [
                ("min", &item.min),
                ("defaultRequest", &item.default_request),
                ("default", &item.default),
                ("max", &item.max),
            ];
            for (place, (lower_key, lower)) in rising.iter().enumerate() {
                for (upper_key, upper) in &rising[place + 1..] {
                    let names = lower.iter().flat_map(|amounts| amounts.keys());
                    let wrong = names.filter(|name| {
                        amount(lower, name).zip(amount(upper, name)).is_some_and(|(lower, upper)| lower > upper)
                    });
                    found.extend(wrong.map(|name| {
                        let place = object.place().item("spec.limits", index).key(lower_key).label(name);
                        Found::at(&place, format!("{lower_key} of {name} is above {upper_key}"))
                    }));
                }
            }
        }
    }
    found
}
