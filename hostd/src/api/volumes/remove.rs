//! `DELETE /volumes/{name}`.

use axum::extract::{Path, State as Extracted};
use axum::http::StatusCode;

use super::State;
use crate::api::error::ApiResult;
use crate::api::params::Params;
use crate::engine::ErrorKind;

pub(in crate::api) async fn remove(
    Extracted(daemon): State,
    Path(name): Path<String>,
    params: Params,
) -> ApiResult<StatusCode> {
    match daemon.engine.remove_volume(&name).await {
        Err(error) if error.kind == ErrorKind::NotFound && params.flag("force") => {}
        outcome => outcome?,
    }
    Ok(StatusCode::NO_CONTENT)
}
