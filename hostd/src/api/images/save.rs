//! `GET /images/{name}/get` and `GET /images/get`: images as one archive.

use axum::extract::{Path, State as Extracted};
use axum::response::Response;

use super::{State, platform};
use crate::api::Daemon;
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::api::stream::download;

pub(in crate::api) async fn save_one(
    Extracted(daemon): State,
    Path(name): Path<String>,
    params: Params,
) -> ApiResult<Response> {
    save(&daemon, vec![name], &params).await
}

pub(in crate::api) async fn save_several(Extracted(daemon): State, params: Params) -> ApiResult<Response> {
    let names: Vec<String> = params.all("names").map(str::to_owned).collect();
    if names.is_empty() {
        return Err(ApiError::invalid("no images to save: give names"));
    }
    save(&daemon, names, &params).await
}

async fn save(daemon: &Daemon, names: Vec<String>, params: &Params) -> ApiResult<Response> {
    let saving = daemon.engine.save_images(names, platform::parse(params)?).await?;
    Ok(download(move |target| saving.write(target)))
}
