//! `POST /containers/{id}/update`: new limits and another restart policy, for a container that runs or not.

use axum::Json;
use axum::extract::{Path, Request, State as Extracted};
use serde::Serialize;
use serde_json::{Map, Value};

use super::State;
use super::create::changed_limits;
use crate::api::body::read_json;
use crate::api::error::ApiResult;
use crate::api::system;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Updated {
    warnings: Vec<String>,
}

pub(in crate::api) async fn update(
    Extracted(daemon): State,
    Path(id): Path<String>,
    request: Request,
) -> ApiResult<Json<Updated>> {
    let (head, body) = request.into_parts();
    let body: Map<String, Value> = read_json(&head.headers, body).await?.unwrap_or_default();
    let spec = daemon.engine.container(&id)?.spec;
    let changed = changed_limits(&body, &spec.limits, system::cpu_count())?;
    let mut warnings = changed.warnings;
    if changed.limits != spec.limits {
        warnings.extend(daemon.engine.update(&id, changed.limits).await?);
    }
    if let Some(policy) = changed.restart {
        daemon.engine.set_restart_policy(&id, policy).await?;
    }
    Ok(Json(Updated { warnings }))
}
