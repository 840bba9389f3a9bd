//! Endpoints that Docker has and Berth has not, yet: each answers 501 with its own name, so that nobody has to guess
//! whether the path was wrong or the daemon lacks it. An endpoint that arrives leaves this table.

use std::sync::Arc;

use axum::Router;
use axum::http::Method;
use axum::routing::{MethodFilter, on};

use super::Daemon;
use super::error::ApiError;

#[rustfmt::skip]
const MISSING: &[(Method, &str)] = &[
    (Method::GET, "/containers/{id}/attach/ws"),
    (Method::POST, "/build"),
    (Method::POST, "/build/prune"),
    (Method::POST, "/build/cancel"),
    (Method::GET, "/volumes"),
    (Method::POST, "/volumes/create"),
    (Method::GET, "/volumes/{name}"),
    (Method::PUT, "/volumes/{name}"),
    (Method::DELETE, "/volumes/{name}"),
    (Method::POST, "/volumes/prune"),
    (Method::GET, "/networks"),
    (Method::GET, "/networks/{id}"),
    (Method::DELETE, "/networks/{id}"),
    (Method::POST, "/networks/create"),
    (Method::POST, "/networks/{id}/connect"),
    (Method::POST, "/networks/{id}/disconnect"),
    (Method::POST, "/networks/prune"),
    (Method::GET, "/plugins"),
    (Method::GET, "/plugins/privileges"),
    (Method::POST, "/plugins/pull"),
    (Method::GET, "/plugins/{name}/json"),
    (Method::DELETE, "/plugins/{name}"),
    (Method::POST, "/plugins/{name}/enable"),
    (Method::POST, "/plugins/{name}/disable"),
    (Method::POST, "/plugins/{name}/upgrade"),
    (Method::POST, "/plugins/create"),
    (Method::POST, "/plugins/{name}/push"),
    (Method::POST, "/plugins/{name}/set"),
    (Method::GET, "/nodes"),
    (Method::GET, "/nodes/{id}"),
    (Method::DELETE, "/nodes/{id}"),
    (Method::POST, "/nodes/{id}/update"),
    (Method::GET, "/swarm"),
    (Method::POST, "/swarm/init"),
    (Method::POST, "/swarm/join"),
    (Method::POST, "/swarm/leave"),
    (Method::POST, "/swarm/update"),
    (Method::GET, "/swarm/unlockkey"),
    (Method::POST, "/swarm/unlock"),
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
    (Method::POST, "/session"),
    (Method::POST, "/grpc"),
];

/// `router` with every missing endpoint's answer.
pub(super) fn add(mut router: Router<Arc<Daemon>>) -> Router<Arc<Daemon>> {
    for (method, path) in MISSING {
        // `docker inspect` tries one kind of object after another, and goes on at "not supported".
        let message = format!("{method} {path} is not supported by berth yet");
        let filter =
            MethodFilter::try_from(method.clone()).expect("the table holds methods that axum routes");
        router = router.route(path, on(filter, async move || ApiError::not_supported(message.clone())));
    }
    router
}

#[cfg(test)]
pub(super) fn endpoints() -> impl Iterator<Item = (Method, &'static str)> {
    MISSING.iter().map(|(method, path)| (method.clone(), *path))
}
