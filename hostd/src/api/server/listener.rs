//! The sockets the daemon listens on, and their files.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::config::Host;

/// Its owner and its group; whoever may write to it owns the host.
const SOCKET_MODE: u32 = 0o660;
/// Whose members may use the socket: the first that the system has.
const GROUPS: [&str; 2] = ["berth", "docker"];

/// A connection over TCP on which nothing is said for this long is asked whether it still is one.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// Sockets that are bound and not yet served.
#[derive(Debug)]
pub struct Listeners(Vec<Listener>);

#[derive(Debug)]
pub(super) enum Listener {
    Unix { listener: UnixListener, _file: SocketFile },
    Tcp(TcpListener),
}

pub(super) enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Why the daemon cannot listen; each names the socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("another daemon answers on unix://{}: stop it or choose another -H", .0.display())]
    InUse(PathBuf),
    #[error("{} is there already and is no socket: remove it or choose another -H", .0.display())]
    NoSocket(PathBuf),
    #[error("cannot listen on unix://{}: {source}", path.display())]
    Unix { path: PathBuf, source: io::Error },
    #[error("cannot listen on tcp://{address}: {source}")]
    Tcp { address: SocketAddr, source: io::Error },
}

impl Listeners {
    /// Binds every host. Must be called within the runtime.
    ///
    /// # Errors
    /// The first socket that cannot be had; what was bound before is released.
    pub async fn bind(hosts: &[Host]) -> Result<Self, ListenError> {
        let mut listeners = Vec::new();
        for host in hosts {
            listeners.push(match host {
                Host::Unix(path) => bind_unix(path)?,
                Host::Tcp(address) => bind_tcp(*address).await?,
            });
        }
        Ok(Self(listeners))
    }

    pub(super) fn into_listeners(self) -> Vec<Listener> {
        self.0
    }
}

impl Listener {
    pub(super) async fn accept(&self) -> io::Result<Connection> {
        match self {
            Self::Unix { listener, .. } => Ok(Connection::Unix(listener.accept().await?.0)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Keystrokes of an attached terminal are small.
                stream.set_nodelay(true)?;
                // One whose host is gone says nothing any more, and neither does one that has closed its socket.
                sockopt::set_socket_keepalive(&stream, true)?;
                sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
                Ok(Connection::Tcp(stream))
            }
        }
    }
}

async fn bind_tcp(address: SocketAddr) -> Result<Listener, ListenError> {
    let bound = TcpListener::bind(address).await;
    bound.map(Listener::Tcp).map_err(|source| ListenError::Tcp { address, source })
}

fn bind_unix(path: &Path) -> Result<Listener, ListenError> {
    let failed = |source| ListenError::Unix { path: path.to_owned(), source };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    remove_stale(path)?;
    let listener = UnixListener::bind(path).map_err(failed)?;
    let file = SocketFile::new(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed)?;
    give_to_group(path);
    Ok(Listener::Unix { listener, _file: file })
}

/// Removes a socket that a daemon left behind when it was killed.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Unix { path: path.to_owned(), source };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NoSocket(path.to_owned()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
        Ok(_) => Err(ListenError::InUse(path.to_owned())),
    }
}

fn give_to_group(path: &Path) {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let Some((name, id)) = GROUPS.iter().find_map(|name| Some((name, group_id(&groups, name)?))) else {
        return;
    };
    if let Err(error) = chown(path, None, Some(id)) {
        tracing::warn!(socket = %path.display(), group = name, %error, "the socket stays its owner's alone");
    }
}

fn group_id(groups: &str, name: &str) -> Option<u32> {
    let mut lines = groups.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?)
}

/// A socket's file, removed with its owner unless somebody else has put another in its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), inode: std::fs::symlink_metadata(path)?.ino() })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode);
        if is_ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(socket = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn bind(path: &Path) -> Result<Listeners, ListenError> {
        Listeners::bind(&[Host::Unix(path.to_owned())]).await
    }

    #[tokio::test]
    async fn a_socket_is_its_groups_and_goes_with_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/berthd.sock");
        let listeners = bind(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        drop(listeners);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("berthd.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let live = bind(&path).await.unwrap();
        assert!(matches!(bind(&path).await, Err(ListenError::InUse(_))));
        drop(live);
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("precious");
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(bind(&path).await, Err(ListenError::NoSocket(_))));
        assert!(path.exists());
    }

    #[test]
    fn a_groups_id_is_its_third_field() {
        let groups = "root:x:0:\ndockers:x:5:\ndocker:x:998:me\n";
        assert_eq!(group_id(groups, "docker"), Some(998));
        assert_eq!(group_id(groups, "berth"), None);
    }
}
