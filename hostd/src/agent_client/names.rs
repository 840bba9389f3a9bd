//! The connection by which a machine asks for names on behalf of one container.

use std::io;

use berth_protocol::agent::{NameAnswer, NameQuery, ServeNames, StreamHeader};
use berth_protocol::frame;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::{AgentClient, CallError, read_frame};

impl AgentClient {
    /// Connects to a container's name server.
    pub(crate) async fn serve_names(&self, container_id: &str) -> Result<NameConnection, CallError> {
        let request = ServeNames { container_id: container_id.into() };
        let header = StreamHeader { serve_names: Some(request), ..StreamHeader::default() };
        let (stream, _reply) = self.open_stream(header).await?;
        Ok(NameConnection { stream })
    }
}

/// Questions come, answers go, in any order.
#[derive(Debug)]
pub(crate) struct NameConnection {
    stream: UnixStream,
}

impl NameConnection {
    pub(crate) fn split(self) -> (Questions, Answers) {
        let (reader, writer) = self.stream.into_split();
        (Questions { reader }, Answers { writer })
    }
}

/// What the machine asks.
#[derive(Debug)]
pub(crate) struct Questions {
    reader: OwnedReadHalf,
}

impl Questions {
    /// The next one. Not cancel-safe.
    ///
    /// # Errors
    /// The machine is gone, or says what is no question.
    pub(crate) async fn next(&mut self) -> io::Result<NameQuery> {
        read_frame(&mut self.reader).await
    }
}

/// What the machine is told.
#[derive(Debug)]
pub(crate) struct Answers {
    writer: OwnedWriteHalf,
}

impl Answers {
    /// # Errors
    /// The machine is gone.
    pub(crate) async fn send(&mut self, answer: &NameAnswer) -> io::Result<()> {
        let frame = frame::encode(answer).map_err(io::Error::other)?;
        self.writer.write_all(&frame).await
    }
}
