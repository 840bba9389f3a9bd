//! `DELETE /images/{name}`.

use axum::Json;
use axum::extract::{Path, State as Extracted};
use serde::Serialize;

use super::State;
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::image::Removed;

#[derive(Debug, Serialize)]
pub(in crate::api) enum Deletion {
    Untagged(String),
    Deleted(String),
}

pub(in crate::api) async fn remove(
    Extracted(daemon): State,
    Path(name): Path<String>,
    params: Params,
) -> ApiResult<Json<Vec<Deletion>>> {
    if params.text("platforms").is_some() {
        return Err(ApiError::not_supported(
            "platforms of DELETE /images/{name} is not supported by berth yet",
        ));
    }
    let removed = daemon.engine.remove_image(&name, params.flag("force")).await?;
    Ok(Json(removed.into_iter().map(Deletion::from).collect()))
}

impl From<Removed> for Deletion {
    fn from(removed: Removed) -> Self {
        match removed {
            Removed::Untagged(name) => Self::Untagged(name),
            Removed::Deleted(digest) => Self::Deleted(digest.to_string()),
        }
    }
}
