//! How the engine refuses: what kind of refusal it is, and a sentence that names the object.

use crate::registry::{RegistryError, RegistryErrorKind};

/// What a client can do about it; `api` turns it into a status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    NotFound,
    Conflict,
    InvalidParameter,
    /// Nobody may: what it is about is read-only, or always there.
    Forbidden,
    /// The process could not be executed: the request was understood, the program was not there, or not executable.
    StartFailed,
    /// A registry does not know the client, or not as what it says it is.
    Unauthorized,
    /// A registry wants fewer requests.
    TooManyRequests,
    /// Berth does not do this yet.
    NotSupported,
    Internal,
}

/// The message is Docker's wherever Docker has one, because clients match on it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    pub kind: ErrorKind,
    pub message: String,
}

impl EngineError {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidParameter, message)
    }

    /// What failed and why, with the whole chain of causes.
    pub(crate) fn internal(step: &str, cause: &dyn std::error::Error) -> Self {
        Self::new(ErrorKind::Internal, format!("{step}: {}", chain(cause)))
    }
}

impl From<RegistryError> for EngineError {
    fn from(error: RegistryError) -> Self {
        let kind = match error.kind {
            // What one may not see is as good as not there, also in Docker's API.
            RegistryErrorKind::NotFound | RegistryErrorKind::Denied => ErrorKind::NotFound,
            RegistryErrorKind::Unauthorized => ErrorKind::Unauthorized,
            RegistryErrorKind::TooManyRequests => ErrorKind::TooManyRequests,
            RegistryErrorKind::Unreachable
            | RegistryErrorKind::Refused
            | RegistryErrorKind::InvalidAnswer
            | RegistryErrorKind::Source => ErrorKind::Internal,
        };
        Self { kind, message: error.message }
    }
}

/// An error and its sources as one sentence.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |source| source.source());
    sources.fold(error.to_string(), |sentence, source| format!("{sentence}: {source}"))
}
