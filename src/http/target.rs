//! Which model a path means, and by which protocol it is asked for a prediction.

use std::borrow::Cow;

use axum::extract::RawPathParams;
use axum::extract::rejection::RawPathParamsRejection;
use axum::http::Method;
use percent_encoding::percent_decode_str;

use super::error::Error;
use crate::api::Shared;
use crate::batch::Handle;

/// What the router has read of a path.
pub(super) type Path = Result<RawPathParams, RawPathParamsRejection>;

/// The version that `{model}` and `{version}` name, as far as the path has them.
pub(super) fn resolve(state: &Shared, path: Path) -> Result<Handle, Error> {
    let path = path.map_err(|_| not_utf8())?;
    let part = |name: &str| path.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    state.resolve(part("model"), part("version"))
}

/// In whose form a prediction is asked for and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Predict,
    V1,
    V2,
}

impl Protocol {
    /// Whether `method` may ask for something else by the same path.
    pub(super) fn shares_its_path_with(self, method: &Method) -> bool {
        self == Self::V1 && (method == Method::GET || method == Method::HEAD)
    }

    /// The methods that paths of predictions take.
    pub(super) fn allowed(self) -> &'static str {
        if self == Self::V1 { "GET,HEAD,POST" } else { "POST" }
    }
}

/// The parts of a path that name a model, as they came: percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    model: Option<&'a str>,
    version: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// What a path of predictions means; `None` of any other.
    pub(super) fn of(path: &'a str) -> Option<(Protocol, Self)> {
        let (protocol, model, version) = match path.strip_prefix('/')?.split_once('/') {
            None => (Protocol::Predict, (path == "/predict").then_some(None)?, None),
            Some(("predict", rest)) => {
                let (model, version) = rest.split_once('/').map_or((rest, None), |(model, rest)| (model, Some(rest)));
                (Protocol::Predict, Some(model), version)
            }
            Some(("v1", rest)) => {
                let (model, version) = versioned(rest.strip_prefix("models/")?);
                (Protocol::V1, Some(model), version)
            }
            Some(("v2", rest)) => {
                let (model, version) = versioned(rest.strip_prefix("models/")?.strip_suffix("/infer")?);
                (Protocol::V2, Some(model), version)
            }
            Some(_) => return None,
        };
        let is_name = |part: Option<&str>| part.is_none_or(|part| !part.is_empty() && !part.contains('/'));
        (is_name(model) && is_name(version)).then_some((protocol, Self { model, version }))
    }

    /// The target before `verb`, which must be at the end of its last part.
    pub(super) fn before(self, verb: &str) -> Result<Self, Error> {
        let last = self.version.or(self.model).unwrap_or_default();
        let name = last.strip_suffix(verb).ok_or_else(|| {
            let last = decoded(last).unwrap_or_default();
            Error::not_found(format!("{:?}: expected {verb} at the end of the path", super::error::shown(&last)))
                .hint(format!("as in POST /v1/models/MODEL{verb}"))
        })?;
        Ok(match self.version {
            Some(_) => Self { version: Some(name), ..self },
            None => Self { model: Some(name), ..self },
        })
    }

    /// The version that it names.
    pub(super) fn resolve(self, shared: &Shared) -> Result<Handle, Error> {
        let [model, version] = [self.model, self.version].map(|part| part.map(decoded).transpose());
        shared.resolve(model?.as_deref(), version?.as_deref())
    }
}

/// `MODEL` or `MODEL/versions/VERSION`.
fn versioned(rest: &str) -> (&str, Option<&str>) {
    rest.split_once("/versions/").map_or((rest, None), |(model, version)| (model, Some(version)))
}

fn decoded(part: &str) -> Result<Cow<'_, str>, Error> {
    percent_decode_str(part).decode_utf8().map_err(|_| not_utf8())
}

fn not_utf8() -> Error {
    Error::not_found("the model's name is no UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_predictions_name_their_protocol_and_model() {
        use Protocol::{Predict, V1, V2};
        for (path, protocol, model, version) in [
            ("/predict", Predict, None, None),
            ("/predict/digits", Predict, Some("digits"), None),
            ("/predict/digits/2", Predict, Some("digits"), Some("2")),
            ("/predict/a%2Fb", Predict, Some("a%2Fb"), None),
            ("/v1/models/digits:predict", V1, Some("digits:predict"), None),
            ("/v1/models/digits/versions/2:predict", V1, Some("digits"), Some("2:predict")),
            ("/v2/models/digits/infer", V2, Some("digits"), None),
            ("/v2/models/digits/versions/2/infer", V2, Some("digits"), Some("2")),
        ] {
            assert_eq!(Target::of(path), Some((protocol, Target { model, version })), "{path}");
        }
    }

    #[test]
    fn other_paths_are_no_predictions() {
        for path in [
            "",
            "/",
            "*",
            "predict",
            "/predict/",
            "/predict//1",
            "/predict/a/",
            "/predict/a/1/",
            "/predict/a/1/b",
            "/predicted",
            "/v1",
            "/v1/models",
            "/v1/models/",
            "/v1/models/a/1",
            "/v1/models/a/versions/",
            "/v2/models/a",
            "/v2/models//infer",
            "/v2/models/infer",
            "/v2/models/a/versions//infer",
            "/v2/models/a/b/infer",
            "/v2/models/a/infer/",
            "/v3/models/a/infer",
        ] {
            assert_eq!(Target::of(path), None, "{path}");
        }
    }

    #[test]
    fn a_verb_is_the_end_of_the_last_part() {
        let target = |model, version| Target { model: Some(model), version };
        assert_eq!(target("a:predict", None).before(":predict").unwrap(), target("a", None));
        assert_eq!(target("a", Some("1:predict")).before(":predict").unwrap(), target("a", Some("1")));
        assert!(target("a:predict", Some("1")).before(":predict").is_err());
    }
}
