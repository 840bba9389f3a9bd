//! `POST /networks/prune`.

use axum::Json;
use axum::extract::State as Extracted;
use serde::Serialize;

use super::State;
use crate::api::error::ApiResult;
use crate::api::images::until;
use crate::api::params::Params;
use crate::engine::NetworkView;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Pruned {
    /// Null if there was nothing to remove.
    networks_deleted: Option<Vec<String>>,
}

pub(in crate::api) async fn prune(Extracted(daemon): State, params: Params) -> ApiResult<Json<Pruned>> {
    let filters = params.filters()?;
    filters.allow(&["label", "label!", "until"], &[])?;
    let until = until(&filters)?;
    let fits = |view: &NetworkView| {
        let labels = &view.network.labels;
        until.is_none_or(|until| view.network.created_at < until)
            && filters.labels_fit(labels)
            && !filters.any_label("label!", labels)
    };
    let names = daemon.engine.prune_networks(fits).await?;
    Ok(Json(Pruned { networks_deleted: (!names.is_empty()).then_some(names) }))
}
