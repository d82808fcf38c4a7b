//! What no handler says of itself: the other paths that lead to it, ids, and what layers answer.

use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, Content, Header, OneOfBuilder, OpenApi, RefOr, Required, Response};
use utoipa::{Modify, PartialSchema as _};

use super::refusal::refusals;
use super::{PROBES, REPOSITORY, shorter};
use crate::api::error::Kind;

pub(super) struct Common;

impl Modify for Common {
    fn modify(&self, api: &mut OpenApi) {
        let token =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("TORCHPOD_CONTROL_TOKEN")).build();
        let components = api.components.get_or_insert_with(Components::new);
        components.add_security_scheme("control_token", SecurityScheme::Http(token));
        let longest: Vec<(String, PathItem)> =
            api.paths.paths.iter().map(|(path, item)| (path.clone(), item.clone())).collect();
        for (path, item) in longest {
            for (number, other) in shorter(&path).into_iter().enumerate() {
                let item = without_parameters(item.clone(), &other, number);
                api.paths.paths.insert(other, item);
            }
        }
        for item in api.paths.paths.values_mut() {
            operations(item).for_each(complete);
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post].into_iter().flatten()
}

/// `item` for `path`, which lacks some of its parameters; it is the `number`th that is shorter.
fn without_parameters(mut item: PathItem, path: &str, number: usize) -> PathItem {
    let suffix = ["of_highest_version", "of_default_model"].get(number).copied().unwrap_or_default();
    for operation in operations(&mut item) {
        let is_there = |parameter: &Parameter| {
            parameter.parameter_in != ParameterIn::Path || path.contains(&format!("{{{}}}", parameter.name))
        };
        if let Some(parameters) = &mut operation.parameters {
            parameters.retain(is_there);
        }
        if let Some(id) = &mut operation.operation_id {
            *id = format!("{id}_{suffix}");
        }
    }
    item
}

/// Probes have no ids, and are answered above `--max-connections`, too.
fn complete(operation: &mut Operation) {
    let tags = operation.tags.clone().unwrap_or_default();
    let is_tagged = |wanted: &str| tags.iter().any(|tag| tag == wanted);
    let is_probe = is_tagged(PROBES);
    let mut kinds = vec![Kind::HeadTooLarge, Kind::ModelFailed];
    if !is_probe {
        kinds.push(Kind::Overloaded);
        let asked = [
            ("X-Request-Id", "Comes back with the answer, and stands in the log where the request fails"),
            ("traceparent", "W3C Trace Context: the answer names a span of its own in the same trace"),
            ("tracestate", "Comes back with the answer"),
        ];
        let asked = asked.map(|(name, what)| header(name, what, String::schema()));
        operation.parameters.get_or_insert_default().extend(asked);
    }
    let is_order = is_tagged(REPOSITORY);
    if let Some(body) = &mut operation.request_body {
        // Orders may come without one.
        body.required = Some(if is_order { Required::False } else { Required::True });
        let codings = ["gzip", "deflate", "zstd", "identity"];
        let schema = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(codings)).build();
        let coding = header("Content-Encoding", "What the body is compressed with", schema);
        operation.parameters.get_or_insert_default().push(coding);
    }
    for (status, response) in refusals("Error", &kinds) {
        let responses = &mut operation.responses.responses;
        let Some(RefOr::T(known)) = responses.get_mut(&status) else {
            responses.insert(status, response);
            continue;
        };
        if let RefOr::T(response) = response {
            join(known, response);
        }
    }
    let responses = &mut operation.responses.responses;
    // What answers, answers with its name, be it an error.
    let Some(RefOr::T(good)) = responses.get("200") else { return };
    let mut headers = good.headers.clone();
    if !is_probe {
        headers.extend(
            ["x-request-id", "traceparent", "tracestate"].map(|name| (name.to_owned(), Header::new(String::schema()))),
        );
    }
    for (status, response) in responses.iter_mut() {
        if let RefOr::T(response) = response {
            response.headers.extend(headers.clone());
            if response.description.is_empty() {
                response.description = described(status).to_owned();
            }
        }
    }
}

/// Of an answer that its handler says nothing of.
fn described(status: &str) -> &'static str {
    if status == "200" { "OK" } else { "Not now" }
}

fn header(name: &str, meaning: &str, schema: impl Into<RefOr<Schema>>) -> Parameter {
    let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header);
    parameter.required(Required::False).description(Some(meaning)).schema(Some(schema)).build()
}

/// `known`, or else `other`.
fn join(known: &mut Response, other: Response) {
    for word in other.description.split(", ").filter(|word| !known.description.contains(word)).collect::<Vec<_>>() {
        let comma = if known.description.is_empty() { "" } else { ", " };
        known.description = format!("{}{comma}{word}", known.description);
    }
    known.headers.extend(other.headers);
    for (kind, content) in other.content {
        let Some(mine) = known.content.get_mut(&kind) else {
            known.content.insert(kind, content);
            continue;
        };
        if mine.schema == content.schema {
            continue;
        }
        let schemas = [mine.schema.take(), content.schema].into_iter().flatten();
        let either = schemas.fold(OneOfBuilder::new(), OneOfBuilder::item);
        *mine = Content::new(Some(either));
    }
}
