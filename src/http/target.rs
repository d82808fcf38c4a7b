//! Which model a path means.

use axum::extract::RawPathParams;
use axum::extract::rejection::RawPathParamsRejection;

use super::error::Error;
use crate::api::Shared;
use crate::batch::Handle;

pub(super) type Path = Result<RawPathParams, RawPathParamsRejection>;

/// The version that `{model}` and `{version}` name, as far as the path has them.
pub(super) fn resolve(state: &Shared, path: Path) -> Result<Handle, Error> {
    let path = path.map_err(|_| Error::not_found("the model's name is no UTF-8"))?;
    let part = |name: &str| path.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
    state.resolve(part("model"), part("version"))
}
