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
    (Method::GET, "/containers/{id}/checkpoints"),
    (Method::POST, "/containers/{id}/checkpoints"),
    (Method::DELETE, "/containers/{id}/checkpoints/{checkpoint}"),
    (Method::POST, "/build"),
    (Method::POST, "/build/prune"),
    (Method::POST, "/build/cancel"),
    (Method::GET, "/plugins/privileges"),
    (Method::POST, "/plugins/pull"),
    (Method::POST, "/plugins/create"),
    (Method::POST, "/swarm/init"),
    (Method::POST, "/swarm/join"),
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
