//! How a command ends: an exit status, or a failure with its text and its exit status.

use std::io;

use thiserror::Error;

use crate::client::ClientError;
use crate::credentials::CredentialsError;
use crate::detach_keys::DetachKeysError;
use crate::format::{ListError, TemplateError};
use crate::host::HostError;
use crate::moment::MomentError;
use crate::options::OptionError;
use crate::session::SessionError;
use crate::streams::StreamError;

/// Zero, the container's own status, or what a command says instead of an error text.
pub(crate) type Outcome = Result<u8, Failure>;

/// The daemon could not do what `run` asked for.
pub(crate) const DAEMON_FAILED: u8 = 125;
/// The command is there but cannot be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The command is not there.
pub(crate) const NOT_FOUND: u8 = 127;
/// Added to the number of the signal that ended us, as shells do.
const SIGNALLED: u8 = 128;
const SIGPIPE: u8 = 13;

#[derive(Debug, Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Format(#[from] ListError),
    /// What the user asked for cannot be.
    #[error("{0}")]
    Usage(String),
    /// A file or stream of the user's.
    #[error("{object}: {source}")]
    File { object: String, source: io::Error },
    #[error("writing output: {0}")]
    Output(#[source] io::Error),
    /// Texts of what failed among several things, one a line.
    #[error("{}", .0.join("\n"))]
    Several(Vec<String>),
    /// A failure of `run` or `create`, whose exit statuses tell the daemon's failures from the container's.
    #[error("berth: {source}\n\nRun 'berth {verb} --help' for more information")]
    Container { verb: &'static str, status: u8, source: Box<Self> },
}

impl Failure {
    pub(crate) fn status(&self) -> u8 {
        match self {
            Self::Container { status, source, .. } => match source.as_ref() {
                Self::Session(SessionError::Interrupted(_)) => source.status(),
                _ => *status,
            },
            Self::Session(SessionError::Interrupted(signal)) => SIGNALLED + signal.number,
            failure if failure.is_closed_output() => SIGNALLED + SIGPIPE,
            _ => 1,
        }
    }

    /// True for what needs no words: nobody reads them, or the user caused it.
    pub(crate) fn is_silent(&self) -> bool {
        match self {
            Self::Container { source, .. } => source.is_silent(),
            Self::Session(SessionError::Interrupted(_)) => true,
            failure => failure.is_closed_output(),
        }
    }

    /// Whoever read our output has gone, as in `berth logs x | head`.
    fn is_closed_output(&self) -> bool {
        match self {
            Self::Output(source) | Self::Session(SessionError::Stream(StreamError::Write(source))) => {
                source.kind() == io::ErrorKind::BrokenPipe
            }
            _ => false,
        }
    }
}

impl From<TemplateError> for Failure {
    fn from(error: TemplateError) -> Self {
        Self::Format(error.into())
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        Self::Session(error.into())
    }
}

impl From<OptionError> for Failure {
    fn from(error: OptionError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<MomentError> for Failure {
    fn from(error: MomentError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<DetachKeysError> for Failure {
    fn from(error: DetachKeysError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// A container's exit status as ours: a system gives a process eight bits.
pub(crate) fn exit_status(status: i64) -> u8 {
    u8::try_from(status.rem_euclid(256)).expect("a remainder of 256 fits eight bits")
}

/// Docker tells a missing command from one that cannot be executed by the text of the failed start.
pub(crate) fn status_of_start(error: &ClientError) -> u8 {
    let ClientError::Refused { message, .. } = error else { return DAEMON_FAILED };
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["executable file not found", "no such file or directory"]) {
        NOT_FOUND
    } else if says(&["permission denied", "is a directory"]) {
        NOT_EXECUTABLE
    } else {
        DAEMON_FAILED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::Signal;

    fn refused(message: &str) -> ClientError {
        ClientError::Refused { status: 400, message: message.to_owned() }
    }

    #[test]
    fn a_failed_start_is_told_by_its_text() {
        for (message, status) in [
            ("exec: \"nope\": executable file not found in $PATH", 127),
            ("exec: \"/nope\": stat /nope: no such file or directory", 127),
            ("exec: \"/etc/passwd\": permission denied", 126),
            ("exec: \"/etc\": is a directory", 126),
            ("no space left", 125),
        ] {
            assert_eq!(status_of_start(&refused(message)), status, "{message}");
        }
    }

    #[test]
    fn exit_statuses_are_eight_bits() {
        assert_eq!((exit_status(0), exit_status(137), exit_status(-1), exit_status(256)), (0, 137, 255, 0));
    }

    #[test]
    fn a_closed_pipe_ends_without_a_word() {
        let failure = Failure::Output(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.status(), failure.is_silent()), (141, true));
        let full = Failure::Output(io::Error::from(io::ErrorKind::StorageFull));
        assert_eq!((full.status(), full.is_silent()), (1, false));
    }

    #[test]
    fn an_interrupted_session_ends_with_the_signals_number() {
        let interrupted = SessionError::Interrupted(Signal { name: "TERM", number: 15 });
        let failure =
            Failure::Container { verb: "run", status: 125, source: Box::new(Failure::Session(interrupted)) };
        assert_eq!((failure.status(), failure.is_silent()), (143, true));
    }
}
