//! `POST /images/create`: pulling, or importing when there is a source.

use axum::extract::{Request, State as Extracted};
use axum::response::{IntoResponse, Response};

use super::{State, import, pull};
use crate::api::error::ApiResult;
use crate::api::params::Params;

pub(in crate::api) async fn create(
    Extracted(daemon): State,
    params: Params,
    request: Request,
) -> ApiResult<Response> {
    match params.text("fromSrc") {
        Some(_source) => import::import(&daemon, &params, request).await,
        None => pull::pull(params).await.map(IntoResponse::into_response),
    }
}
