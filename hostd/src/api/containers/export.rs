//! `GET /containers/{id}/export`: a container's files as one archive.

use axum::extract::{Path, State as Extracted};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::State;
use crate::api::error::ApiResult;
use crate::api::stream::archive_body;

pub(in crate::api) async fn export(Extracted(daemon): State, Path(id): Path<String>) -> ApiResult<Response> {
    let body = archive_body(daemon.engine.export(&id).await?);
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}
