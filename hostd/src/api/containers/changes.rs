//! `GET /containers/{id}/changes`: how a container's files differ from its image.

use axum::Json;
use axum::extract::{Path, State as Extracted};
use serde::Serialize;

use super::State;
use crate::api::error::ApiResult;
use crate::engine::ChangeKind;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Change {
    path: String,
    kind: u8,
}

/// Docker answers null where there are none, and its clients know that.
pub(in crate::api) async fn changes(
    Extracted(daemon): State,
    Path(id): Path<String>,
) -> ApiResult<Json<Option<Vec<Change>>>> {
    let changes = daemon.engine.changes(&id).await?;
    let changes = changes.into_iter().map(|change| Change { path: change.path, kind: number(change.kind) });
    Ok(Json(Some(changes.collect::<Vec<_>>()).filter(|changes| !changes.is_empty())))
}

fn number(kind: ChangeKind) -> u8 {
    match kind {
        ChangeKind::Modified => 0,
        ChangeKind::Added => 1,
        ChangeKind::Deleted => 2,
    }
}
