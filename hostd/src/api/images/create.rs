//! `POST /images/create`: pulling, or importing when there is a source.

use axum::extract::{Request, State as Extracted};
use axum::response::Response;

use super::{State, import, pull};
use crate::api::error::ApiResult;
use crate::api::params::Params;
use crate::api::registry_auth::RegistryAuth;

pub(in crate::api) async fn create(
    Extracted(daemon): State,
    RegistryAuth(credentials): RegistryAuth,
    params: Params,
    request: Request,
) -> ApiResult<Response> {
    match params.text("fromSrc") {
        Some(_source) => import::import(&daemon, &params, request).await,
        None => pull::pull(&daemon, credentials, &params).await,
    }
}
