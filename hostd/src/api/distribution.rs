//! `GET /distribution/{name}/json` and, of Berth's own, `GET /distribution/{name}/manifest`: what a registry has under
//! a name. Nothing of it is stored.

use axum::Json;
use axum::extract::{Path, State as Extracted};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::State;
use super::error::ApiResult;
use super::registry_auth::RegistryAuth;

/// Where registries, too, say the digest of a manifest.
const DIGEST_HEADER: HeaderName = HeaderName::from_static("docker-content-digest");

pub(super) async fn inspect(
    Extracted(daemon): State,
    Path(name): Path<String>,
    RegistryAuth(credentials): RegistryAuth,
) -> ApiResult<Json<Value>> {
    let found = daemon.engine.distribution(&name, credentials).await?;
    Ok(Json(json!({
        "Descriptor": {
            "mediaType": found.media_type,
            "digest": found.digest,
            "size": found.size_bytes,
        },
        "Platforms": found.platforms,
    })))
}

/// The manifest's bytes under the media type that its registry gives them.
pub(super) async fn manifest(
    Extracted(daemon): State,
    Path(name): Path<String>,
    RegistryAuth(credentials): RegistryAuth,
) -> ApiResult<Response> {
    let found = daemon.engine.registry_manifest(&name, credentials).await?;
    let media_type = HeaderValue::from_str(&found.media_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
    let digest = HeaderValue::from_str(&found.digest.to_string()).expect("digits and letters");
    Ok(([(header::CONTENT_TYPE, media_type), (DIGEST_HEADER, digest)], found.content).into_response())
}

#[cfg(test)]
mod tests;
