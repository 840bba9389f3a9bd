//! `POST /containers/prune`.

use axum::Json;
use axum::extract::State as Extracted;
use serde::Serialize;

use super::State;
use crate::api::error::ApiResult;
use crate::api::images::until;
use crate::api::params::Params;
use crate::engine::ContainerView;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Pruned {
    /// Null if there was nothing to remove.
    containers_deleted: Option<Vec<String>>,
    /// Bytes of the host's disk.
    space_reclaimed: u64,
}

pub(in crate::api) async fn prune(Extracted(daemon): State, params: Params) -> ApiResult<Json<Pruned>> {
    let filters = params.filters()?;
    filters.allow(&["label", "label!", "until"], &[])?;
    let until = until(&filters)?;
    let fits = |view: &ContainerView| {
        let labels = &view.spec.labels;
        until.is_none_or(|until| view.created_at < until)
            && filters.labels_fit(labels)
            && !filters.any_label("label!", labels)
    };
    let pruned = daemon.engine.prune_containers(fits).await?;
    let ids: Vec<String> = pruned.ids.iter().map(ToString::to_string).collect();
    Ok(Json(Pruned {
        containers_deleted: (!ids.is_empty()).then_some(ids),
        space_reclaimed: pruned.reclaimed_bytes,
    }))
}
