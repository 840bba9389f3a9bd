//! `POST /commit`: an image of what a container has become.

use axum::Json;
use axum::extract::{Request, State as Extracted};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};

use super::State;
use super::name::repository_and_tag;
use crate::api::body::{decode, read_json};
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::engine::CommitRequest;
use crate::image::ImageConfig;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Committed {
    id: String,
}

pub(in crate::api) async fn commit(
    Extracted(daemon): State,
    params: Params,
    request: Request,
) -> ApiResult<(StatusCode, Json<Committed>)> {
    let (head, body) = request.into_parts();
    // Docker's CLI sends null, and others nothing.
    let body: Option<Option<Map<String, Value>>> = read_json(&head.headers, body).await?;
    let config = body.flatten().map(|body| decode::<ImageConfig>(&body)).transpose()?;
    let name = repository_and_tag(&params)?;
    let container = params.text("container");
    let container = container.ok_or_else(|| ApiError::invalid("invalid name or ID supplied: \"\""))?;
    let text = |name| params.text(name).unwrap_or_default().to_owned();
    let request = CommitRequest {
        name,
        pause: params.text("pause").is_none() || params.flag("pause"),
        author: text("author"),
        comment: text("comment"),
        config,
        changes: params.all("changes").map(str::to_owned).collect(),
    };
    let id = daemon.engine.commit(container, request).await?;
    Ok((StatusCode::CREATED, Json(Committed { id: id.to_string() })))
}
