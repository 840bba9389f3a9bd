//! `DELETE /networks/{id}`.

use axum::extract::{Path, State as Extracted};
use axum::http::StatusCode;

use super::State;
use crate::api::error::ApiResult;

pub(in crate::api) async fn remove(
    Extracted(daemon): State,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    daemon.engine.remove_network(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}
