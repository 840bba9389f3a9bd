//! `POST /containers/create`: from Docker's two hundred fields to the engine's words.

mod body;
mod change;
mod devices;
mod fields;
mod health;
mod limits;
mod logging;
mod mounts;
mod namespaces;
mod network;
mod restart;
mod security;
mod spec;
mod storage;

use axum::Json;
use axum::extract::{Request, State as Extracted};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};

pub(in crate::api) use self::change::changed_limits;
pub(super) use self::fields::empty as is_empty;
pub(in crate::api) use self::network::endpoint;
pub(in crate::api) use self::spec::{RUNTIMES, check_variable};
use super::State;
use crate::api::body::{self as json, read_json};
use crate::api::error::{ApiError, ApiResult};
use crate::api::params::Params;
use crate::api::system;
use crate::engine::ContainerSpec;

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::api) struct Created {
    id: String,
    warnings: Vec<String>,
}

pub(in crate::api) async fn create(
    Extracted(daemon): State,
    params: Params,
    request: Request,
) -> ApiResult<(StatusCode, Json<Created>)> {
    check_platform(params.text("platform"))?;
    let name = params.text("name").map(str::to_owned);
    let (head, body) = request.into_parts();
    // Null is an object that nobody filled.
    let body: Option<Option<Map<String, Value>>> = read_json(&head.headers, body).await?;
    let body = body.ok_or_else(|| ApiError::invalid(json::NO_JSON))?.unwrap_or_default();
    let (spec, mut warnings) = decode(&body, system::cpu_count())?;
    let created = daemon.engine.create(name, spec).await?;
    warnings.extend(created.warnings);
    Ok((StatusCode::CREATED, Json(Created { id: created.id.to_string(), warnings })))
}

/// What a client asks of the platform, "os/architecture[/variant]".
fn check_platform(platform: Option<&str>) -> ApiResult<()> {
    let Some(platform) = platform else { return Ok(()) };
    match platform.split('/').collect::<Vec<_>>()[..] {
        ["linux" | "amd64"] | ["linux", "amd64", ..] => Ok(()),
        _ => {
            let message =
                format!("berth runs linux/amd64 and does not provide the specified platform ({platform})");
            // Not "not found": a client would try to pull.
            Err(ApiError::invalid(message))
        }
    }
}

/// The container asked for, and warnings for what has no effect.
fn decode(body: &Map<String, Value>, cpu_count: usize) -> ApiResult<(ContainerSpec, Vec<String>)> {
    if !body.keys().any(|name| is_of_the_container(name)) {
        return Err(ApiError::invalid("config cannot be empty in order to create a container"));
    }
    let none = Map::new();
    let host_config = object(body, "HostConfig", &none)?;
    let networking_config = object(body, "NetworkingConfig", &none)?;
    let objects = fields::Objects { config: body, host_config };
    let config: body::Config = json::decode(body)?;
    let host: body::HostConfig = json::decode_part("HostConfig", host_config)?;
    let networking = json::decode_part("NetworkingConfig", networking_config)?;
    let network = network::network(&config, &host, networking)?;
    let mut mount_warnings = Vec::new();
    let mounts = mounts::mounts(&config, &host, &mut mount_warnings)?;
    let mut warnings = fields::check(&objects)?;
    warnings.append(&mut mount_warnings);
    let limits = limits::limits(&host, cpu_count, &mut warnings)?;
    let security = security::security(&host, &mut warnings)?;
    Ok((spec::spec(config, host, spec::Parts { limits, security, mounts, network })?, warnings))
}

/// Whether a member of a request is the container's own, and not its host's or its networks'.
fn is_of_the_container(name: &str) -> bool {
    !["HostConfig", "NetworkingConfig"].iter().any(|other| name.eq_ignore_ascii_case(other))
}

fn object<'a>(
    body: &'a Map<String, Value>,
    name: &str,
    none: &'a Map<String, Value>,
) -> ApiResult<&'a Map<String, Value>> {
    match json::member(body, name) {
        None | Some(Value::Null) => Ok(none),
        Some(Value::Object(object)) => Ok(object),
        Some(_) => Err(ApiError::invalid(format!("invalid JSON: {name} is no object"))),
    }
}

#[cfg(test)]
pub(in crate::api) mod coverage;
#[cfg(test)]
mod tests;
