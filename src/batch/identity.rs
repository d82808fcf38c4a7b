//! What clients are told of the version that answers them: made once a version, so that no request formats anything.

use axum::http::HeaderValue;
use percent_encoding::{CONTROLS, utf8_percent_encode};

use crate::model::Version;

/// The values of the headers `torchpod-model`, `torchpod-model-version` and `torchpod-model-digest`.
#[derive(Clone, Debug)]
pub struct Identity {
    pub model: HeaderValue,
    pub version: HeaderValue,
    pub digest: HeaderValue,
}

impl Identity {
    pub(super) fn of(version: &Version) -> Self {
        let digest = version.digest.get().map(ToString::to_string).unwrap_or_default();
        Self { model: value(&version.name), version: value(&version.version), digest: value(&digest) }
    }
}

/// A folder's name may hold what a header may not: that is percent-encoded.
fn value(text: &str) -> HeaderValue {
    let encoded = utf8_percent_encode(text, CONTROLS).to_string();
    HeaderValue::try_from(encoded).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_folders_name_makes_a_header() {
        for (name, expected) in [("digits", "digits"), ("a b\n", "a b%0A"), ("größe", "gr%C3%B6%C3%9Fe")] {
            assert_eq!(value(name), expected);
        }
    }
}
