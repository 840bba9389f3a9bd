//! How an exchange with a registry fails: a kind that callers can act on, and a sentence that names registry, repository
//! and what was asked for, in Docker's words where Docker has some.

use std::io;

/// What a caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryErrorKind {
    /// There is no such repository, manifest or blob.
    NotFound,
    /// Nobody, or not who one said one is: log in.
    Unauthorized,
    /// Known, and still not allowed; also how registries say that a repository does not exist. Docker's API answers 404.
    Denied,
    /// The registry wants fewer requests.
    TooManyRequests,
    /// No answer: no route, no TLS, no byte within the deadline.
    Unreachable,
    /// The registry answered, and refuses for another reason or is broken (5xx).
    Refused,
    /// An answer that breaks the protocol or its bounds.
    InvalidAnswer,
    /// What was to be uploaded cannot be read.
    Source,
}

/// A failed exchange with a registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RegistryError {
    pub kind: RegistryErrorKind,
    pub message: String,
}

impl RegistryError {
    pub(super) fn new(kind: RegistryErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// Readers fail with [`io::Error`]; the registry's error is inside it.
impl From<RegistryError> for io::Error {
    fn from(error: RegistryError) -> Self {
        Self::other(error)
    }
}
