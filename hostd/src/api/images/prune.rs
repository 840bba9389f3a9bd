//! `POST /images/prune`.

use axum::Json;
use axum::extract::State as Extracted;
use jiff::Timestamp;
use serde::Serialize;

use super::State;
use super::remove::Deletion;
use crate::api::error::{ApiError, ApiResult};
use crate::api::filters::Filters;
use crate::api::params::Params;
use crate::api::time;
use crate::image::Image;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Pruned {
    /// Null if there was nothing to remove.
    images_deleted: Option<Vec<Deletion>>,
    /// Bytes of the host's disk.
    space_reclaimed: u64,
}

pub(in crate::api) async fn prune(Extracted(daemon): State, params: Params) -> ApiResult<Json<Pruned>> {
    let filters = params.filters()?;
    filters.allow(&["dangling", "label", "label!", "until"], &[])?;
    let with_tags = !filters.flag("dangling")?.unwrap_or(true);
    let until = until(&filters)?;
    let fits = |image: &Image| {
        let labels = &image.config.labels;
        until.is_none_or(|until| image.created.is_some_and(|created| created < until))
            && filters.labels_fit(labels)
            && !filters.any_label("label!", labels)
    };
    let pruned = daemon.engine.prune_images(with_tags, fits).await?;
    let deleted: Vec<Deletion> = pruned.steps.into_iter().map(Deletion::from).collect();
    Ok(Json(Pruned {
        images_deleted: (!deleted.is_empty()).then_some(deleted),
        space_reclaimed: pruned.reclaimed_bytes,
    }))
}

/// The one time of the `until` filter.
///
/// # Errors
/// Several of them, or what is no time.
pub(in crate::api) fn until(filters: &Filters) -> ApiResult<Option<Timestamp>> {
    match filters.values("until") {
        [] => Ok(None),
        [text] => time::point("until", Some(text), Timestamp::now()),
        _ => Err(ApiError::invalid("more than one until filter specified")),
    }
}
