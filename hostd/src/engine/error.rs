//! How the engine refuses: what kind of refusal it is, and a sentence that names the object.

/// What a client can do about it; `api` turns it into a status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    NotFound,
    Conflict,
    InvalidParameter,
    /// The process could not be executed: the request was understood, the program was not there, or not executable.
    StartFailed,
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

/// An error and its sources as one sentence.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |source| source.source());
    sources.fold(error.to_string(), |sentence, source| format!("{sentence}: {source}"))
}
