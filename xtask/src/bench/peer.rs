//! The peer's place on this host.

use std::os::unix::net::UnixStream;

use anyhow::Context;

use crate::progress;

/// The process that listens at `unix:///PATH`; `None`, said aloud, if none answers there.
///
/// # Errors
/// An address of another kind, or a listener that the kernel cannot name.
pub(super) fn listener(address: &str) -> anyhow::Result<Option<u32>> {
    let path = address.strip_prefix("unix://").context("a peer's address is unix:///PATH")?;
    let Ok(socket) = UnixStream::connect(path) else {
        progress::note(format_args!("no dockerd answers at {address}: measuring without a peer"));
        return Ok(None);
    };
    // Who listens there, as the kernel remembers it.
    let listener = rustix::net::sockopt::socket_peercred(&socket).context("the peer has no credentials")?;
    let pid = u32::try_from(listener.pid.as_raw_nonzero().get()).context("a process id is positive")?;
    Ok(Some(pid))
}
