//! `POST /networks/{id}/disconnect`.

use axum::extract::{Path, Request, State as Extracted};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::State;
use crate::api::body::{decode, read_json};
use crate::api::error::ApiResult;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Body {
    container: String,
    force: bool,
}

pub(in crate::api) async fn disconnect(
    Extracted(daemon): State,
    Path(id): Path<String>,
    request: Request,
) -> ApiResult<StatusCode> {
    let (head, body) = request.into_parts();
    let body: Option<Map<String, Value>> = read_json(&head.headers, body).await?;
    let body: Body = decode(&body.unwrap_or_default())?;
    daemon.engine.disconnect(&id, &body.container, body.force).await?;
    Ok(StatusCode::OK)
}
