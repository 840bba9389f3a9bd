//! `GET /containers/{id}/archive`: a path of a container, and all below it, as an archive.

use axum::extract::{Path, State as Extracted};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::path_stat;
use crate::api::State;
use crate::api::error::ApiResult;
use crate::api::params::Params;
use crate::api::stream::archive_body;

pub(in crate::api) async fn get(
    Extracted(daemon): State,
    Path(id): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    let (stat, archive) = daemon.engine.read_path(&id, &super::path(&params)?).await?;
    let content_type = (header::CONTENT_TYPE, "application/x-tar");
    Ok(([path_stat::header(&stat)], [content_type], archive_body(archive)).into_response())
}
