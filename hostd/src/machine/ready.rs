//! The socket on which a machine's agent says that it serves.

use std::io;
use std::path::Path;

use berth_protocol::agent::Ready;
use berth_protocol::frame;
use berth_protocol::ports::READY_PORT;
use berth_vmm::config::files;
use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;

#[derive(Debug)]
pub(super) struct ReadyListener {
    listener: UnixListener,
}

impl ReadyListener {
    /// Binds in the machine's directory; must exist before the machine starts.
    pub(super) fn bind(directory: &Path) -> io::Result<Self> {
        let path = directory.join(format!("{}_{READY_PORT}", files::VSOCK));
        Ok(Self { listener: UnixListener::bind(path)? })
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
