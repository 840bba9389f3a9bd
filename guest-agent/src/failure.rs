//! Why a request failed, in the form in which it crosses to the host: a code for programs, a sentence for people.
//!
//! One type for the whole agent, because every failure of it ends as an [`AgentError`].

use std::fmt::Display;

use berth_protocol::agent::{AgentError, ErrorCode};
use rustix::io::Errno;

/// A failed request. The message names the object and the step.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRequest, message)
    }
}

impl From<Failure> for AgentError {
    fn from(failure: Failure) -> Self {
        Self { code: failure.code.into(), message: failure.message }
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        Self { code: error.code(), message: error.message }
    }
}

/// Gives a lower error its code and the step that failed.
pub(crate) trait During<T> {
    /// The message becomes `step: error`.
    fn during<S: Display>(self, code: ErrorCode, step: impl FnOnce() -> S) -> Result<T, Failure>;
}

impl<T, E: Display> During<T> for Result<T, E> {
    fn during<S: Display>(self, code: ErrorCode, step: impl FnOnce() -> S) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(code, format!("{}: {error}", step())))
    }
}

/// An error number in the words that Docker's users know (those of Go's `syscall` package).
pub(crate) fn errno_text(errno: Errno) -> String {
    let text = match errno {
        Errno::PERM => "operation not permitted",
        Errno::NOENT => "no such file or directory",
        Errno::IO => "input/output error",
        Errno::TOOBIG => "argument list too long",
        Errno::NOEXEC => "exec format error",
        Errno::NOMEM => "cannot allocate memory",
        Errno::ACCESS => "permission denied",
        Errno::NOTDIR => "not a directory",
        Errno::ISDIR => "is a directory",
        Errno::INVAL => "invalid argument",
        Errno::TXTBSY => "text file busy",
        Errno::ROFS => "read-only file system",
        Errno::NAMETOOLONG => "file name too long",
        Errno::LOOP => "too many levels of symbolic links",
        other => return other.to_string(),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_the_wire() {
        let failure = Failure::new(ErrorCode::NoSuchUser, "unable to find user x");
        assert_eq!(Failure::from(AgentError::from(failure.clone())), failure);
    }

    #[test]
    fn a_step_is_named_before_its_error() {
        let failed: Result<(), _> = Err(Errno::NOENT);
        let failure = failed.during(ErrorCode::MountFailed, || "mount /proc").unwrap_err();
        assert!(failure.message.starts_with("mount /proc: "), "{failure}");
    }
}
