//! The four kinds of patches, told apart by their media type.

use serde_json::Value;

use super::strategic;
use crate::object::Problem;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patch {
    Json,
    Merge,
    Strategic,
    /// What the client wants of the object; it is made where there is none. Nobody here counts who owns which field: what
    /// is left out stays as it is.
    Apply,
}

impl Patch {
    pub(super) fn of(media: &str) -> Result<Patch, Problem> {
        match media.split(';').next().unwrap_or_default().trim() {
            "application/json-patch+json" => Ok(Patch::Json),
            "application/merge-patch+json" => Ok(Patch::Merge),
            "application/strategic-merge-patch+json" => Ok(Patch::Strategic),
            "application/apply-patch+yaml" => Ok(Patch::Apply),
            other => Err(Problem::Media(other.to_owned())),
        }
    }

    pub(super) fn apply(self, object: &mut Value, body: Value) -> Result<(), String> {
        match self {
            Patch::Json => {
                let patch: json_patch::Patch = serde_json::from_value(body).map_err(|error| error.to_string())?;
                json_patch::patch(object, &patch).map_err(|error| error.to_string())
            }
            Patch::Merge => {
                json_patch::merge(object, &body);
                Ok(())
            }
            Patch::Strategic | Patch::Apply => {
                strategic::merge(object, body);
                Ok(())
            }
        }
    }
}
