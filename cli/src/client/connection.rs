//! Opens a connection to the daemon and speaks HTTP/1.1 on it. One connection serves one request: over a local
//! socket that costs microseconds, and a hijacked or long-running request never stands in another's way.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::error::ClientError;
use super::request::Body;
use crate::host::Host;

/// Connects, and drives the connection in a task of its own until it ends.
///
/// # Errors
/// [`ClientError::Unreachable`] or [`ClientError::Forbidden`] when nothing answers at `host`.
pub(super) async fn open(host: &Host) -> Result<SendRequest<Body>, ClientError> {
    let socket = connect(host).await.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::Forbidden { host: host.clone() },
        _ => ClientError::Unreachable { host: host.clone(), source },
    })?;
    let (sender, connection) = handshake(TokioIo::new(HearsOut(socket)))
        .await
        .map_err(|source| ClientError::Broken { request: format!("{host}"), source: source.into() })?;
    // Its failure reaches the caller through the request or the body it waits for.
    drop(tokio::spawn(connection.with_upgrades()));
    Ok(sender)
}

/// A byte stream to the daemon, of whatever kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn connect(host: &Host) -> io::Result<Box<dyn Stream>> {
    match host {
        #[cfg(unix)]
        Host::Unix(path) => Ok(Box::new(tokio::net::UnixStream::connect(path).await?)),
        #[cfg(not(unix))]
        Host::Unix(_) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this system has no unix sockets: use -H tcp://127.0.0.1:PORT",
        )),
        Host::Tcp { name, port } => {
            let stream = TcpStream::connect((name.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
    }
}

/// Goes on reading when the other side has stopped: a daemon that refuses a request in the middle of its body answers
/// and hangs up, and its answer is worth more than the broken pipe. What cannot be written any more is dropped; the
/// end of the connection then shows as the end of what can be read.
struct HearsOut<S>(S);

fn unless_hung_up<T>(result: io::Result<T>, instead: T) -> io::Result<T> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
            Ok(instead)
        }
        result => result,
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for HearsOut<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HearsOut<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.0).poll_write(cx, buf));
        Poll::Ready(unless_hung_up(written, buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.0).poll_flush(cx));
        Poll::Ready(unless_hung_up(flushed, ()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = ready!(Pin::new(&mut self.0).poll_shutdown(cx));
        Poll::Ready(unless_hung_up(closed, ()))
    }
}
