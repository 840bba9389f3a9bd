//! The two sockets of a name server. Made by the stage inside the container's network namespace, served by the agent.

use std::io;
use std::net::{SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use super::redirect::KNOWN;

/// Ports to try before none is free for both: each fails only if something of the container has it.
const ATTEMPTS: u32 = 32;

/// Both are of the network namespace that they were made in, wherever they are used, and have the same port.
#[derive(Debug)]
pub(crate) struct NameSockets {
    pub(crate) datagrams: OwnedFd,
    pub(crate) connections: OwnedFd,
}

/// Makes them in the network namespace of the caller, whose loopback interface is up.
///
/// # Errors
/// What the kernel answered.
pub(crate) fn bind() -> io::Result<NameSockets> {
    let mut outcome = Err(io::ErrorKind::AddrInUse.into());
    for _ in 0..ATTEMPTS {
        let datagrams = UdpSocket::bind(SocketAddrV4::new(*KNOWN.ip(), 0))?;
        outcome = TcpListener::bind(datagrams.local_addr()?)
            .map(|connections| NameSockets { datagrams: datagrams.into(), connections: connections.into() });
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// The sockets, to be served.
pub(super) struct Polled {
    pub(super) datagrams: tokio::net::UdpSocket,
    pub(super) connections: tokio::net::TcpListener,
}

impl NameSockets {
    /// # Errors
    /// If they cannot be polled.
    pub(super) fn register(self) -> io::Result<Polled> {
        let (datagrams, connections) = (UdpSocket::from(self.datagrams), TcpListener::from(self.connections));
        datagrams.set_nonblocking(true)?;
        connections.set_nonblocking(true)?;
        Ok(Polled {
            datagrams: tokio::net::UdpSocket::from_std(datagrams)?,
            connections: tokio::net::TcpListener::from_std(connections)?,
        })
    }
}
