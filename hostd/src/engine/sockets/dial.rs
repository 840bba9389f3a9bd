//! Connecting to a socket of the host's as a container's process.
//!
//! Who listens may ask who has connected (`SO_PEERCRED`), and a socket's file says who may connect. Both are to mean the
//! process in the container, not this daemon: a thread that ends afterwards takes its ids.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::geteuid;
use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tokio::net::UnixStream;

use crate::machine::on_own_thread;

/// Whoever listens and has not accepted so many others does it within that.
const DEADLINE: Duration = Duration::from_secs(10);

/// Who connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) user: u32,
    pub(super) group: u32,
    pub(super) further_groups: Vec<u32>,
}

/// Connects to what is at `path` now, where no part is a symbolic link.
///
/// # Errors
/// There is no socket, nobody listens, or that user may not connect.
pub(super) async fn dial(path: &Path, identity: Identity) -> io::Result<UnixStream> {
    let path = path.to_owned();
    let connected = on_own_thread(move || {
        let file = open(&path)?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // A connect waits for as long as a send.
        set_socket_timeout(&socket, Timeout::Send, Some(DEADLINE))?;
        // A daemon that may not become others is the only user that its containers can be.
        if geteuid().is_root() {
            become_user(&identity)?;
        }
        connect_to(&socket, &file)?;
        set_socket_timeout(&socket, Timeout::Send, None)?;
        Ok(socket)
    });
    let stream = std::os::unix::net::UnixStream::from(connected.await?);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode);
    if kind == FileType::Socket { Ok(file) } else { Err(Errno::NOTSOCK.into()) }
}

/// For the rest of this thread.
fn become_user(identity: &Identity) -> io::Result<()> {
    let groups: Vec<Gid> = identity.further_groups.iter().copied().map(Gid::from_raw).collect();
    let (user, group) = (Uid::from_raw(identity.user), Gid::from_raw(identity.group));
    set_thread_groups(&groups)?;
    set_thread_res_gid(group, group, group)?;
    Ok(set_thread_res_uid(user, user, user)?)
}

/// An open file is connected to by the name that this process has for it, whatever has come to its path since.
fn connect_to(socket: impl AsFd, file: impl AsFd) -> rustix::io::Result<()> {
    let name = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    connect(socket, &SocketAddrUnix::new(name)?)
}

/// What a socket's file is for, if it is not for streams. Nobody who listens for streams notices.
///
/// # Errors
/// The host refuses to tell.
pub(in crate::engine) fn other_kind(file: impl AsFd) -> io::Result<Option<&'static str>> {
    for (kind, words) in [(SocketType::DGRAM, "datagrams"), (SocketType::SEQPACKET, "sequences of packets")] {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
        match connect_to(&socket, &file) {
            Ok(()) | Err(Errno::AGAIN) => return Ok(Some(words)),
            // The kernel's word for a socket of another kind; nobody there; or not for us to know.
            Err(_other) => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    const ROOT: Identity = Identity { user: 0, group: 0, further_groups: Vec::new() };

    fn kind(path: &Path) -> Option<&'static str> {
        other_kind(open(path).unwrap()).unwrap()
    }

    #[test]
    fn a_sockets_kind_is_found_without_a_word_to_who_listens() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let listener = UnixListener::bind(at("stream")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let _datagrams = UnixDatagram::bind(at("datagrams")).unwrap();
        let packets =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&packets, &SocketAddrUnix::new(at("packets")).unwrap()).unwrap();
        rustix::net::listen(&packets, 1).unwrap();
        assert_eq!(kind(&at("stream")), None);
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(kind(&at("datagrams")), Some("datagrams"));
        assert_eq!(kind(&at("packets")), Some("sequences of packets"));
        drop(listener);
        assert_eq!(kind(&at("stream")), None, "nobody listens now");
    }

    #[tokio::test]
    async fn no_link_leads_to_another_socket() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().canonicalize().unwrap().join(name);
        let _listener = UnixListener::bind(at("real")).unwrap();
        symlink(at("real"), at("link")).unwrap();
        std::fs::create_dir(at("below")).unwrap();
        symlink(directory.path(), at("below/up")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        let me = || Identity { user: geteuid().as_raw(), ..ROOT };
        dial(&at("real"), me()).await.unwrap();
        let refused = |error: io::Error| Errno::from_io_error(&error);
        assert_eq!(refused(dial(&at("link"), me()).await.unwrap_err()), Some(Errno::NOTSOCK));
        assert_eq!(refused(dial(&at("below/up/real"), me()).await.unwrap_err()), Some(Errno::LOOP));
        assert_eq!(refused(dial(&at("file"), me()).await.unwrap_err()), Some(Errno::NOTSOCK));
        assert_eq!(refused(dial(&at("none"), me()).await.unwrap_err()), Some(Errno::NOENT));
    }

    #[tokio::test]
    async fn who_listens_sees_the_containers_user_and_may_refuse_it() {
        if !geteuid().is_root() {
            eprintln!("skipped: sockets: only root becomes others");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap().join("socket");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let somebody = Identity { user: 4711, group: 4712, further_groups: vec![4713] };
        let allow = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        allow(0o666);
        dial(&path, somebody.clone()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        let seen = accepted.peer_cred().unwrap();
        assert_eq!((seen.uid(), seen.gid()), (4711, 4712));
        allow(0o600);
        let refused = dial(&path, somebody.clone()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
        allow(0o660);
        std::os::unix::fs::chown(&path, Some(0), Some(4713)).unwrap();
        dial(&path, somebody).await.unwrap();
        assert!(geteuid().is_root(), "this thread is who it was");
        dial(&path, ROOT).await.unwrap();
    }
}
