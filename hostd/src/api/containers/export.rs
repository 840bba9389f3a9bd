//! `GET /containers/{id}/export`: a container's files as one archive.

use axum::body::Body;
use axum::extract::{Path, State as Extracted};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::State;
use crate::api::error::ApiResult;
use crate::engine::Export;

pub(in crate::api) async fn export(Extracted(daemon): State, Path(id): Path<String>) -> ApiResult<Response> {
    let export = daemon.engine.export(&id).await?;
    let body = Body::from_stream(stream::try_unfold(export, async |mut export: Export| {
        match export.next().await {
            Ok(piece) => Ok(piece.map(|piece| (piece, export))),
            // The body ends as broken, not as complete; the headers are long gone.
            Err(error) => {
                tracing::warn!(error = error.message, "an export was not sent to its end");
                Err(error)
            }
        }
    }));
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response())
}
