//! Errors, as each kind of route answers them: statuses and words from the one table.

use std::collections::BTreeMap;

use utoipa::openapi::{ContentBuilder, Header, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

use crate::api::error::Kind;

pub(super) type Responses = BTreeMap<String, RefOr<Response>>;

/// torchpod's own form of an error.
#[derive(ToSchema)]
#[schema(as = Error)]
#[expect(dead_code, reason = "it only describes")]
pub(super) struct Own {
    #[schema(inline)]
    error: Detail,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
struct Detail {
    #[schema(schema_with = codes)]
    code: String,
    /// What was wrong where, and what was expected.
    message: String,
    #[schema(required = false, nullable = false)]
    hint: Option<String>,
}

/// An error in the form of the Open Inference Protocol.
#[derive(ToSchema)]
#[schema(as = FlatError)]
#[expect(dead_code, reason = "it only describes")]
pub(super) struct Flat {
    error: String,
}

/// The words that the table has.
fn codes() -> utoipa::openapi::Object {
    let mut codes: Vec<&str> = Kind::all().map(Kind::name).collect();
    codes.dedup();
    utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::schema::Type::String)
        .enum_values(Some(codes))
        .build()
}

/// The answers for `kinds`, with bodies of the schema `form`.
pub(super) fn refusals(form: &str, kinds: &[Kind]) -> Responses {
    let mut found: BTreeMap<String, Vec<Kind>> = BTreeMap::new();
    for kind in kinds {
        found.entry(kind.status().as_str().to_owned()).or_default().push(*kind);
    }
    found.into_iter().map(|(status, kinds)| (status, RefOr::T(response(form, &kinds)))).collect()
}

fn response(form: &str, kinds: &[Kind]) -> Response {
    let names: Vec<String> = kinds.iter().map(|kind| format!("`{}`", kind.name())).collect();
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(form))).build();
    let mut response = ResponseBuilder::new().description(names.join(", ")).content("application/json", content);
    for kind in kinds {
        let header = match (kind, kind.status().as_u16()) {
            (_, 503) => Some(("Retry-After", u64::schema())),
            (Kind::UnsupportedEncoding, _) => Some(("Accept-Encoding", String::schema())),
            (Kind::Unauthorized, _) => Some(("WWW-Authenticate", String::schema())),
            _ => None,
        };
        if let Some((name, schema)) = header {
            response = response.header(name, Header::new(schema));
        }
    }
    response.build()
}

/// A type for each kind of route, for `responses(…)`.
macro_rules! refused {
    ($($(#[$doc:meta])* $name:ident: $form:literal, [$($kind:ident),*];)*) => {$(
        $(#[$doc])*
        pub(in crate::http) struct $name;

        impl IntoResponses for $name {
            fn responses() -> Responses {
                refusals($form, &[$(Kind::$kind),*])
            }
        }
    )*};
}

refused! {
    /// Of `/predict`.
    Prediction: "Error", [
        BadInput, NotFound, BodyTimeout, TooLarge, UnsupportedMediaType, UnsupportedEncoding, ModelFailed, Overloaded,
        OutOfMemory, NotReady, Deadline
    ];
    /// Of the protocol's inference.
    Inference: "FlatError", [
        BadInput, NotFound, BodyTimeout, TooLarge, UnsupportedEncoding, ModelFailed, Overloaded, OutOfMemory, NotReady,
        Deadline
    ];
    /// Of what a flag may have taken away.
    Absent: "Error", [NotFound];
    /// Of a change of what is logged.
    NewFilter: "Error", [BadInput, Unauthorized, Forbidden, BodyTimeout, TooLarge, UnsupportedEncoding];
    /// Of what tells of one model.
    Unknown: "FlatError", [NotFound, NotReady];
    /// Of the repository's index.
    Index: "FlatError", [BadInput, BodyTimeout, TooLarge, UnsupportedEncoding];
    Load: "FlatError", [
        BadInput, Unauthorized, Forbidden, NotFound, BodyTimeout, Conflict, TooLarge, UnsupportedEncoding, LoadFailed,
        NotReady, Deadline
    ];
    Unload: "FlatError", [
        BadInput, Unauthorized, Forbidden, NotFound, BodyTimeout, Conflict, TooLarge, UnsupportedEncoding, NotReady
    ];
}
