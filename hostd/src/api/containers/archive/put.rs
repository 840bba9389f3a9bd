//! `PUT /containers/{id}/archive`: an archive's files into a directory of a container.

use axum::extract::{Path, Request, State as Extracted};
use axum::http::StatusCode;

use crate::api::State;
use crate::api::body::archive_of;
use crate::api::error::ApiResult;
use crate::api::params::Params;
use crate::engine::CopyInto;

pub(in crate::api) async fn put(
    Extracted(daemon): State,
    Path(id): Path<String>,
    params: Params,
    request: Request,
) -> ApiResult<StatusCode> {
    let into = CopyInto {
        path: super::path(&params)?,
        keep_kinds: params.flag("noOverwriteDirNonDir"),
        owned_by_user: params.flag("copyUIDGID"),
    };
    daemon.engine.write_files(&id, &into, archive_of(request)).await?;
    Ok(StatusCode::OK)
}
