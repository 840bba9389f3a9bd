//! The connection by which a machine says who connects to one container's sockets of the host's, and those that carry them.

use std::io;

use berth_protocol::agent::{CarryConnection, ServeSockets, SocketConnection, SocketRefusal, StreamHeader};
use berth_protocol::frame;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::{AgentClient, CallError, read_frame};

impl AgentClient {
    /// Begins to hear who connects to a container's sockets.
    pub(crate) async fn serve_sockets(&self, container_id: &str) -> Result<SocketClients, CallError> {
        let request = ServeSockets { container_id: container_id.into() };
        let header = StreamHeader { serve_sockets: Some(request), ..StreamHeader::default() };
        let (stream, _reply) = self.open_stream(header).await?;
        Ok(SocketClients { stream })
    }

    /// Takes one of them up: what it says and hears.
    pub(crate) async fn carry_connection(
        &self,
        container_id: &str,
        id: u64,
    ) -> Result<UnixStream, CallError> {
        let request = CarryConnection { container_id: container_id.into(), id };
        let header = StreamHeader { carry_connection: Some(request), ..StreamHeader::default() };
        let (stream, _reply) = self.open_stream(header).await?;
        Ok(stream)
    }
}

/// Connections come, refusals go.
#[derive(Debug)]
pub(crate) struct SocketClients {
    stream: UnixStream,
}

impl SocketClients {
    pub(crate) fn split(self) -> (Arriving, Refusals) {
        let (reader, writer) = self.stream.into_split();
        (Arriving { reader }, Refusals { writer })
    }
}

/// Who connects.
#[derive(Debug)]
pub(crate) struct Arriving {
    reader: OwnedReadHalf,
}

impl Arriving {
    /// The next one. Not cancel-safe.
    ///
    /// # Errors
    /// The machine is gone, or says what is no connection.
    pub(crate) async fn next(&mut self) -> io::Result<SocketConnection> {
        read_frame(&mut self.reader).await
    }
}

/// Who is not connected.
#[derive(Debug)]
pub(crate) struct Refusals {
    writer: OwnedWriteHalf,
}

impl Refusals {
    /// # Errors
    /// The machine is gone.
    pub(crate) async fn send(&mut self, id: u64) -> io::Result<()> {
        let frame = frame::encode(&SocketRefusal { id }).map_err(io::Error::other)?;
        self.writer.write_all(&frame).await
    }
}
