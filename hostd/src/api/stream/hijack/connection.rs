//! A connection that has become its client's own: both directions, and whether anybody is left at its other end.
//!
//! The end of what a client sends does not say that it has gone: it may still read. A process that prints nothing would
//! keep such a connection for as long as it runs, so its socket is asked.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest};
use tokio::net::{TcpStream, UnixStream};

pub(in crate::api::stream) struct Connection {
    pub(in crate::api::stream) reader: Box<dyn AsyncRead + Send + Unpin>,
    pub(in crate::api::stream) writer: Box<dyn AsyncWrite + Send + Unpin>,
    pub(in crate::api::stream) presence: Presence,
}

/// The socket once more.
pub(in crate::api::stream) struct Presence(OwnedFd);

impl Connection {
    /// # Errors
    /// No file descriptors left, or a kind of socket that the server does not accept.
    pub(in crate::api::stream) fn of(upgraded: Upgraded) -> io::Result<Self> {
        match upgraded.downcast::<TokioIo<UnixStream>>() {
            Ok(parts) => {
                let stream = parts.io.into_inner();
                let presence = Presence::of(&stream)?;
                let (reader, writer) = stream.into_split();
                Ok(Self::new(parts.read_buf, reader, writer, presence))
            }
            Err(upgraded) => {
                let unknown = |_upgraded| io::Error::other("neither a unix nor a TCP socket");
                let parts = upgraded.downcast::<TokioIo<TcpStream>>().map_err(unknown)?;
                let stream = parts.io.into_inner();
                let presence = Presence::of(&stream)?;
                let (reader, writer) = stream.into_split();
                Ok(Self::new(parts.read_buf, reader, writer, presence))
            }
        }
    }

    /// `early` is what came behind the request's head.
    fn new(
        early: bytes::Bytes,
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        presence: Presence,
    ) -> Self {
        let reader = Box::new(io::Cursor::new(early).chain(reader));
        Self { reader, writer: Box::new(writer), presence }
    }
}

impl Presence {
    pub(super) fn of(socket: &impl AsFd) -> io::Result<Self> {
        socket.as_fd().try_clone_to_owned().map(Self)
    }

    /// Completes when the client has closed its socket for both directions: at once on a unix socket; on TCP, where a
    /// closed socket looks like one that only sends no more, when the network says so.
    pub(super) async fn gone(self) {
        // Nothing but its readiness is asked for, which is the same for sockets of either kind.
        let Ok(socket) = UnixStream::from_std(self.0.into()) else {
            // Without room to watch it, its end is found out with the next output.
            return std::future::pending().await;
        };
        while let Ok(ready) = socket.ready(Interest::WRITABLE).await {
            if ready.is_write_closed() {
                return;
            }
            // "Not ready": the next word is of a change.
            let _forgotten: io::Result<()> =
                socket.try_io(Interest::WRITABLE, || Err(io::ErrorKind::WouldBlock.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_client_that_only_sends_no_more_is_still_there() {
        let (mut client, server) = UnixStream::pair().unwrap();
        let gone = Presence::of(&server).unwrap().gone();
        let mut gone = std::pin::pin!(gone);
        client.shutdown().await.unwrap();
        assert!(timeout(Duration::from_millis(20), gone.as_mut()).await.is_err());
        drop(client);
        timeout(Duration::from_secs(10), gone).await.unwrap();
    }
}
