//! The Docker Engine API: the one place that knows HTTP and Docker's dialect.
//!
//! A handler decodes, calls the engine once, encodes; what may happen to a container is decided in
//! [`crate::engine`].

mod server;

mod absent;
mod check;
mod containers;
mod distribution;
mod events;
mod exec;
mod images;
mod missing;
mod networks;
mod system;
mod usage;
mod volumes;

mod body;
mod error;
mod filters;
mod params;
mod registry_auth;
mod stream;
mod time;
mod version;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, head, post};

use self::error::ApiError;
use self::version::ApiVersion;
use crate::accelerator::Choice;
use crate::config::Settings;
use crate::engine::Engine;

pub use self::server::{ListenError, Listeners};

/// What the handlers know.
#[derive(Debug)]
pub struct Daemon {
    pub engine: Engine,
    pub settings: Settings,
    pub accelerator: Choice,
}

impl Daemon {
    #[must_use]
    pub fn new(engine: Engine, settings: Settings, accelerator: Choice) -> Self {
        Self { engine, settings, accelerator }
    }
}

type State = axum::extract::State<Arc<Daemon>>;

/// Every endpoint that answers, without its version prefix.
#[rustfmt::skip]
fn endpoints() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/_ping", get(system::ping))
        .route("/version", get(system::version))
        .route("/info", get(system::info))
        .route("/auth", post(registry_auth::check))
        .route("/events", get(events::events))
        .route("/berth/check", post(check::check))
        .route("/system/df", get(usage::df))
        .route("/commit", post(images::commit))
        .route("/images/json", get(images::list))
        .route("/images/search", get(images::search))
        .route("/images/load", post(images::load))
        .route("/images/create", post(images::create))
        .route("/images/get", get(images::save_several))
        .route("/images/{name}/get", get(images::save_one))
        .route("/images/prune", post(images::prune))
        .route("/images/{name}/tag", post(images::tag))
        .route("/images/{name}/push", post(images::push))
        .route("/images/{name}", delete(images::remove))
        .route("/images/{name}/json", get(images::inspect))
        .route("/images/{name}/history", get(images::history))
        .route("/distribution/{name}/json", get(distribution::inspect))
        .route("/distribution/{name}/manifest", get(distribution::manifest))
        .route("/networks", get(networks::list))
        .route("/networks/create", post(networks::create))
        .route("/networks/prune", post(networks::prune))
        .route("/networks/{id}", get(networks::inspect).delete(networks::remove))
        .route("/volumes", get(volumes::list))
        .route("/volumes/create", post(volumes::create))
        .route("/volumes/prune", post(volumes::prune))
        .route("/volumes/{name}", get(volumes::inspect).put(volumes::update).delete(volumes::remove))
        .route("/networks/{id}/connect", post(networks::connect))
        .route("/networks/{id}/disconnect", post(networks::disconnect))
        .route("/containers/json", get(containers::list))
        .route("/containers/create", post(containers::create))
        .route("/containers/prune", post(containers::prune))
        .route("/containers/{id}", delete(containers::remove))
        .route("/containers/{id}/json", get(containers::inspect))
        .route("/containers/{id}/start", post(containers::start))
        .route("/containers/{id}/stop", post(containers::stop))
        .route("/containers/{id}/restart", post(containers::restart))
        .route("/containers/{id}/rename", post(containers::rename))
        .route("/containers/{id}/kill", post(containers::kill))
        .route("/containers/{id}/pause", post(containers::pause))
        .route("/containers/{id}/unpause", post(containers::unpause))
        .route("/containers/{id}/update", post(containers::update))
        .route("/containers/{id}/top", get(containers::top))
        .route("/containers/{id}/stats", get(containers::stats))
        .route("/containers/{id}/export", get(containers::export))
        .route("/containers/{id}/archive", head(containers::head_archive).get(containers::get_archive).put(containers::put_archive))
        .route("/containers/{id}/changes", get(containers::changes))
        .route("/containers/{id}/wait", post(containers::wait))
        .route("/containers/{id}/logs", get(containers::logs))
        .route("/containers/{id}/attach", post(containers::attach))
        .route("/containers/{id}/attach/ws", get(containers::attach_websocket))
        .route("/containers/{id}/resize", post(containers::resize))
        .route("/containers/{id}/exec", post(exec::create))
        .route("/exec/{id}/start", post(exec::start))
        .route("/exec/{id}/json", get(exec::inspect))
        .route("/exec/{id}/resize", post(exec::resize))
}

/// Answers requests; cheap to clone.
#[derive(Clone, Debug)]
pub struct Api {
    router: Router,
}

impl Api {
    #[must_use]
    pub fn new(daemon: Arc<Daemon>) -> Self {
        let router = missing::add(absent::add(endpoints()))
            .fallback(page_not_found)
            .method_not_allowed_fallback(page_not_found)
            .with_state(daemon);
        Self { router }
    }

    /// Takes the version off the path, routes what is left, and puts Docker's headers on the answer.
    pub(crate) async fn answer(&self, request: Request) -> Response {
        let mut response = match unversioned(request) {
            Ok(request) if *request.method() == Method::OPTIONS => StatusCode::OK.into_response(),
            Ok(request) if is_head_of_nothing(&request) => page_not_found().await.into_response(),
            Ok(request) => self.route(request).await,
            Err(error) => error.into_response(),
        };
        for (name, value) in HEADERS {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }

    async fn route(&self, request: Request) -> Response {
        use tower::ServiceExt;
        let Ok(response) = self.router.clone().oneshot(request).await;
        response
    }
}

/// The router would answer HEAD wherever it answers GET, and do all the work; Docker has it in two places.
fn is_head_of_nothing(request: &Request) -> bool {
    let path = request.uri().path();
    *request.method() == Method::HEAD && path != "/_ping" && !path.ends_with("/archive")
}

/// On every answer: clients negotiate with them.
const HEADERS: [(&str, &str); 4] = [
    ("api-version", "1.51"),
    ("docker-experimental", "false"),
    ("ostype", "linux"),
    ("server", concat!("Berth/", env!("CARGO_PKG_VERSION"), " (linux)")),
];

fn unversioned(mut request: Request) -> Result<Request, ApiError> {
    check_path(request.uri().path())?;
    let (version, path) = version::split(request.uri().path())?;
    let folded = version::fold_name(path, request.method() == Method::DELETE);
    let path = folded.as_deref().unwrap_or(path);
    let uri = match request.uri().query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    *request.uri_mut() =
        Uri::try_from(uri).map_err(|error| ApiError::invalid(format!("invalid request path: {error}")))?;
    request.extensions_mut().insert::<ApiVersion>(version);
    Ok(request)
}

/// # Errors
/// A path whose escapes are none, or do not spell text.
fn check_path(path: &str) -> Result<(), ApiError> {
    params::check_escapes(path)?;
    if params::is_text(path) {
        Ok(())
    } else {
        Err(ApiError::invalid(format!("invalid request path: {path} is no UTF-8")))
    }
}

async fn page_not_found() -> ApiError {
    ApiError::not_found("page not found")
}

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod coverage;
#[cfg(test)]
mod tests;
