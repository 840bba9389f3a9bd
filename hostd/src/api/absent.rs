//! Endpoints of what this host has none of: plugins, and the nodes, services and secrets of a swarm. Their answers are the
//! ones of a dockerd that has none either, because clients look there in passing. What would make one answers 501, in
//! [`super::missing`].

use std::sync::Arc;

use axum::extract::Path;
use axum::http::Method;
use axum::routing::{MethodFilter, get, on};
use axum::{Json, Router};
use serde_json::Value;

use super::Daemon;
use super::error::{ApiError, ApiResult};
use super::params::Params;

const PLUGIN: &[(Method, &str)] = &[
    (Method::GET, "/plugins/{name}/json"),
    (Method::DELETE, "/plugins/{name}"),
    (Method::POST, "/plugins/{name}/enable"),
    (Method::POST, "/plugins/{name}/disable"),
    (Method::POST, "/plugins/{name}/upgrade"),
    (Method::POST, "/plugins/{name}/push"),
    (Method::POST, "/plugins/{name}/set"),
];

#[rustfmt::skip]
const SWARM: &[(Method, &str)] = &[
    (Method::GET, "/swarm"),
    (Method::POST, "/swarm/update"),
    (Method::GET, "/swarm/unlockkey"),
    (Method::POST, "/swarm/unlock"),
    (Method::GET, "/nodes"),
    (Method::GET, "/nodes/{id}"),
    (Method::DELETE, "/nodes/{id}"),
    (Method::POST, "/nodes/{id}/update"),
    (Method::GET, "/services"),
    (Method::POST, "/services/create"),
    (Method::GET, "/services/{id}"),
    (Method::DELETE, "/services/{id}"),
    (Method::POST, "/services/{id}/update"),
    (Method::GET, "/services/{id}/logs"),
    (Method::GET, "/tasks"),
    (Method::GET, "/tasks/{id}"),
    (Method::GET, "/tasks/{id}/logs"),
    (Method::GET, "/secrets"),
    (Method::POST, "/secrets/create"),
    (Method::GET, "/secrets/{id}"),
    (Method::DELETE, "/secrets/{id}"),
    (Method::POST, "/secrets/{id}/update"),
    (Method::GET, "/configs"),
    (Method::POST, "/configs/create"),
    (Method::GET, "/configs/{id}"),
    (Method::DELETE, "/configs/{id}"),
    (Method::POST, "/configs/{id}/update"),
];

/// `router` with all of their answers.
pub(super) fn add(mut router: Router<Arc<Daemon>>) -> Router<Arc<Daemon>> {
    router = router.route("/plugins", get(plugins)).route("/swarm/leave", on(MethodFilter::POST, leave));
    for (method, path) in PLUGIN {
        router = router.route(path, on(filter(method), no_plugin));
    }
    for (method, path) in SWARM {
        router = router.route(path, on(filter(method), no_manager));
    }
    router
}

fn filter(method: &Method) -> MethodFilter {
    MethodFilter::try_from(method.clone()).expect("the tables hold methods that axum routes")
}

/// `GET /plugins`: there are none, whatever the filters ask for.
async fn plugins(params: Params) -> ApiResult<Json<Vec<Value>>> {
    params.filters()?.allow(&["capability", "enabled"], &[])?;
    Ok(Json(Vec::new()))
}

async fn no_plugin(Path(name): Path<String>) -> ApiError {
    ApiError::not_found(format!("plugin \"{name}\" not found"))
}

async fn no_manager() -> ApiError {
    ApiError::unavailable(
        "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node \
         to swarm and try again.",
    )
}

/// `POST /swarm/leave`
async fn leave() -> ApiError {
    ApiError::unavailable("This node is not part of a swarm")
}

#[cfg(test)]
pub(super) fn endpoints() -> impl Iterator<Item = (Method, &'static str)> {
    let alone = [(Method::GET, "/plugins"), (Method::POST, "/swarm/leave")];
    let tables = PLUGIN.iter().chain(SWARM).map(|(method, path)| (method.clone(), *path));
    alone.into_iter().chain(tables)
}
