//! Opens a connection to the daemon and speaks HTTP/1.1 on it. One connection serves one request: over a local
//! socket that costs microseconds, and a hijacked or long-running request never stands in another's way.

use std::io;

use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
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
    let (sender, connection) = handshake(TokioIo::new(socket))
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
