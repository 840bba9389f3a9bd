//! What a failed request answers: a status and `{"message": …}`, as Docker does. The one place where the engine's
//! and the image store's failures become HTTP.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::engine::{EngineError, ErrorKind, InvalidSignal};
use crate::image::{LoadError, ResolveError, StoreError};
use crate::registry::RegistryError;

pub(super) type ApiResult<T> = Result<T, ApiError>;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

#[derive(Serialize)]
struct Message<'a> {
    message: &'a str,
}

impl ApiError {
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message: message.into() }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, message: message.into() }
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self { status: StatusCode::CONFLICT, message: message.into() }
    }

    /// There is nobody here who could.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, message: message.into() }
    }

    /// Berth knows the wish and cannot grant it.
    pub(super) fn not_supported(message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_IMPLEMENTED, message: message.into() }
    }

    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, message: message.into() }
    }

    /// The same, with 500 for 401, as dockerd answers a pull: at 401 the docker CLI asks for a login, and where there is
    /// nobody to answer it asks for ever.
    pub(super) fn asking_for_no_login(self) -> Self {
        match self.status {
            StatusCode::UNAUTHORIZED => Self::internal(self.message),
            _other => self,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(message = self.message, "request failed");
        }
        (self.status, Json(Message { message: &self.message })).into_response()
    }
}

/// The error with what caused it.
fn sentence(error: impl std::error::Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> Self {
        let status = match error.kind {
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::InvalidParameter | ErrorKind::StartFailed => StatusCode::BAD_REQUEST,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorKind::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::NotSupported => StatusCode::NOT_IMPLEMENTED,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, message: error.message }
    }
}

impl From<RegistryError> for ApiError {
    fn from(error: RegistryError) -> Self {
        EngineError::from(error).into()
    }
}

impl From<ResolveError> for ApiError {
    fn from(error: ResolveError) -> Self {
        let status = match error {
            ResolveError::Invalid(_) | ResolveError::Ambiguous { .. } => StatusCode::BAD_REQUEST,
            ResolveError::NotFound { .. } | ResolveError::Platform { .. } => StatusCode::NOT_FOUND,
            ResolveError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, message: sentence(error) }
    }
}

impl From<LoadError> for ApiError {
    fn from(error: LoadError) -> Self {
        if error.is_client_fault() {
            Self::invalid(error.to_string())
        } else {
            Self::internal(error.to_string())
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::internal(sentence(error))
    }
}

impl From<InvalidSignal> for ApiError {
    fn from(error: InvalidSignal) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<tokio::task::JoinError> for ApiError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::internal(format!("a task of the daemon failed: {error}"))
    }
}
