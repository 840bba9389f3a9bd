//! `HEAD /containers/{id}/archive`: what is at a path of a container.

use axum::extract::{Path, State as Extracted};
use axum::response::{IntoResponse, Response};

use super::path_stat;
use crate::api::State;
use crate::api::error::ApiResult;
use crate::api::params::Params;

pub(in crate::api) async fn head(
    Extracted(daemon): State,
    Path(id): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    let stat = daemon.engine.stat_path(&id, &super::path(&params)?).await?;
    Ok([path_stat::header(&stat)].into_response())
}
