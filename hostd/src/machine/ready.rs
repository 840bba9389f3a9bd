//! The socket on which a machine's agent says that it serves.

use std::io;
use std::path::Path;

use berth_protocol::agent::Ready;
use berth_protocol::frame;
use berth_protocol::ports::READY_PORT;
use berth_vmm::config::files;
use rustix::fs::{Gid, Uid};
use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;

#[derive(Debug)]
pub(super) struct ReadyListener {
    listener: UnixListener,
}

impl ReadyListener {
    /// Binds in `directory`, for `user` to connect to; must exist before the machine starts.
    pub(super) fn bind(directory: &Path, user: Option<u32>) -> io::Result<Self> {
        let path = directory.join(format!("{}_{READY_PORT}", files::VSOCK));
        let listener = UnixListener::bind(&path)?;
        if let Some(user) = user {
            rustix::fs::chown(&path, Some(Uid::from_raw(user)), Some(Gid::from_raw(user)))?;
        }
        Ok(Self { listener })
    }

    /// The first well-formed word of the agent.
    pub(super) async fn accept(self) -> io::Result<Ready> {
        let (mut stream, _peer) = self.listener.accept().await?;
        let mut header = [0; frame::HEADER_BYTES];
        stream.read_exact(&mut header).await?;
        let length = frame::payload_length(header).map_err(io::Error::other)?;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await?;
        frame::decode(&payload).map_err(io::Error::other)
    }
}
