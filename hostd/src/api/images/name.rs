//! The name that a new image gets: the parameters `repo` and `tag`.

use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::image::{Reference, Selector};

/// Nothing, if no repository is given.
///
/// # Errors
/// What is no name, or one with a digest, which nobody can choose.
pub(super) fn repository_and_tag(params: &Params) -> ApiResult<Option<Reference>> {
    let Some(repository) = params.text("repo") else { return Ok(None) };
    let text = params.text("tag").map_or_else(|| repository.to_owned(), |tag| format!("{repository}:{tag}"));
    let name = Reference::parse(&text).map_err(|error| ApiError::invalid(error.to_string()))?;
    if matches!(name.selector, Selector::Manifest(_)) {
        return Err(ApiError::invalid("cannot import digest reference"));
    }
    Ok(Some(name))
}
