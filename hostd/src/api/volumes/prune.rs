//! `POST /volumes/prune`.

use axum::Json;
use axum::extract::State as Extracted;
use serde::Serialize;

use super::State;
use crate::api::error::ApiResult;
use crate::api::params::Params;
use crate::api::version::ApiVersion;
use crate::engine::VolumeView;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Pruned {
    /// Null if there was nothing to remove.
    volumes_deleted: Option<Vec<String>>,
    /// Bytes of files.
    space_reclaimed: u64,
}

pub(in crate::api) async fn prune(
    Extracted(daemon): State,
    version: ApiVersion,
    params: Params,
) -> ApiResult<Json<Pruned>> {
    let filters = params.filters()?;
    filters.allow(&["all", "label", "label!"], &[])?;
    let all = filters.flag("all")?.unwrap_or(version < ApiVersion::ANONYMOUS_PRUNE);
    let fits = |view: &VolumeView| {
        let labels = &view.volume.labels;
        (all || view.volume.is_anonymous())
            && filters.labels_fit(labels)
            && !filters.any_label("label!", labels)
    };
    let pruned = daemon.engine.prune_volumes(fits).await?;
    Ok(Json(Pruned {
        volumes_deleted: (!pruned.names.is_empty()).then_some(pruned.names),
        space_reclaimed: pruned.reclaimed_bytes,
    }))
}
