//! `POST /volumes/create`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Request, State as Extracted};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::list::VolumeResource;
use super::{State, update};
use crate::api::body::{NO_JSON, decode, read_json};
use crate::api::error::{ApiError, ApiResult};
use crate::engine::VolumeRequest;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Body {
    name: String,
    driver: String,
    driver_opts: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
    cluster_volume_spec: Option<Map<String, Value>>,
}

pub(in crate::api) async fn create(
    Extracted(daemon): State,
    request: Request,
) -> ApiResult<(StatusCode, Json<VolumeResource>)> {
    let (head, body) = request.into_parts();
    let body: Option<Map<String, Value>> = read_json(&head.headers, body).await?;
    let body = body.ok_or_else(|| ApiError::invalid(NO_JSON))?;
    let request = volume_request(decode(&body)?)?;
    let view = daemon.engine.create_volume(request).await?;
    Ok((StatusCode::CREATED, Json(VolumeResource::of(&view))))
}

fn volume_request(body: Body) -> ApiResult<VolumeRequest> {
    if body.cluster_volume_spec.is_some() {
        return Err(update::no_manager());
    }
    Ok(VolumeRequest {
        name: Some(body.name),
        driver: body.driver,
        options: body.driver_opts.unwrap_or_default(),
        labels: body.labels.unwrap_or_default(),
    })
}
