//! `POST /images/{name}/tag`.

use axum::extract::{Path, State as Extracted};
use axum::http::StatusCode;

use super::State;
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;

pub(in crate::api) async fn tag(
    Extracted(daemon): State,
    Path(name): Path<String>,
    params: Params,
) -> ApiResult<StatusCode> {
    let repository = params.text("repo");
    let repository =
        repository.ok_or_else(|| ApiError::invalid("invalid reference format: repo is empty"))?;
    let target = match params.text("tag") {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_owned(),
    };
    daemon.engine.tag_image(&name, &target).await?;
    Ok(StatusCode::CREATED)
}
