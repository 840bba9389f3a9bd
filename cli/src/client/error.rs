//! What can go wrong between this program and the daemon, in Docker's words where Docker has them.

use std::io;

use thiserror::Error;

use crate::host::Host;

#[derive(Debug, Error)]
pub(crate) enum ClientError {
    #[error(
        "Cannot connect to the Berth daemon at {host}. Is berthd running? ({source})\n\
         Start berthd, or name another daemon with -H; `berth doctor` looks for what is missing."
    )]
    Unreachable { host: Host, source: io::Error },
    #[error(
        "permission denied while trying to connect to the Berth daemon socket at {host}: \
         run this command as root, or join the group that owns the socket"
    )]
    Forbidden { host: Host },
    /// The daemon understood and said no.
    #[error("Error response from daemon: {message}")]
    Refused { status: u16, message: String },
    /// The connection broke, or what came over it was not HTTP.
    #[error("{request}: the connection to the daemon failed: {source}")]
    Broken {
        request: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An answer that is not what the API says.
    #[error("{request}: the daemon's answer makes no sense: {reason}")]
    Nonsense { request: String, reason: String },
}

impl ClientError {
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}
