//! The host's end of a connection: a unix socket, and what it has not yet taken of the guest's bytes.
//!
//! Also the convention by which the host names a port of the guest: it connects, writes `CONNECT <port>\n`, and is
//! told `OK <local port>\n` once the guest has accepted.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, shutdown, socket_with,
};

use super::connection::BUFFER_BYTES;
use crate::memory::{GuestMemoryMmap, VolatileSlice};
use crate::virtio::chain::Segments;
use crate::virtio::guest_io;

/// `CONNECT 4294967295\n`, with a little patience.
const MAX_COMMAND_BYTES: usize = 32;

#[derive(Debug)]
pub(super) struct HostSocket {
    socket: OwnedFd,
    /// Received from the guest, not yet taken by the host. Bounded by the credit that the guest was given.
    untaken: VecDeque<u8>,
    /// There may be something to read. Cleared by a read that found less than it asked for.
    pub(super) readable: bool,
    /// The other end sends no more: a read that finds less than it asked for is followed by one that finds the end.
    pub(super) ended: bool,
    /// The other end is closed altogether.
    pub(super) hung_up: bool,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    Bytes(usize),
    Nothing,
    End,
}

impl HostSocket {
    pub(super) fn new(socket: OwnedFd) -> Self {
        // All that the guest may have under way then fits, and needs no copy of ours. A host that allows less costs
        // that copy.
        set_socket_send_buffer_size(&socket, BUFFER_BYTES as usize).ok();
        Self { socket, untaken: VecDeque::new(), readable: true, ended: false, hung_up: false }
    }

    /// Connects to the socket where the host waits for the guest's connections to `port`.
    ///
    /// # Errors
    /// Nobody listens there, or too many wait already: in either case the guest is refused.
    pub(super) fn connect(base: &Path, port: u32) -> io::Result<Self> {
        let mut path = base.as_os_str().to_owned();
        path.push(format!("_{port}"));
        let address = SocketAddrUnix::new(PathBuf::from(path))?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &address)?;
        Ok(Self::new(socket))
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads into guest memory.
    pub(super) fn receive(&mut self, slices: &[VolatileSlice<'_>]) -> Received {
        let slices = &slices[..slices.len().min(guest_io::MAX_SLICES)];
        let asked: usize = slices.iter().map(VolatileSlice::len).sum();
        match guest_io::receive(self.socket.as_fd(), slices) {
            Ok(0) => Received::End,
            Ok(bytes) => {
                // Less than asked for means that there was no more, and more will be an event; the end was one already.
                self.readable = bytes == asked || self.ended;
                Received::Bytes(bytes)
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                self.readable = e.kind() == io::ErrorKind::Interrupted;
                Received::Nothing
            }
            Err(_) => {
                self.hung_up = true;
                Received::End
            }
        }
    }

    /// Hands the guest's bytes to the host, or keeps them until it takes them. Gives the number that it took now.
    ///
    /// # Errors
    /// The host takes nothing more.
    pub(super) fn deliver(&mut self, data: &Segments, memory: &GuestMemoryMmap) -> io::Result<usize> {
        let mut taken = 0;
        if self.untaken.is_empty() {
            let mut slices = Vec::new();
            data.slices(memory, &mut slices).map_err(io::Error::other)?;
            taken = none_if_full(guest_io::send(self.socket.as_fd(), &slices))?;
        }
        if taken < data.len() {
            let mut rest = vec![0; data.len() - taken];
            data.range(taken, rest.len()).read(memory, &mut rest).map_err(io::Error::other)?;
            self.untaken.extend(rest);
        }
        Ok(taken)
    }

    /// Offers the host what it has not taken yet; [`Self::untaken_bytes`] says what is left.
    ///
    /// # Errors
    /// The host takes nothing more.
    pub(super) fn offer(&mut self) -> io::Result<()> {
        while !self.untaken.is_empty() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let taken =
                none_if_full(send(&self.socket, self.untaken.as_slices().0, flags).map_err(Into::into))?;
            if taken == 0 {
                return Ok(());
            }
            self.untaken.drain(..taken);
        }
        // The memory goes back with the bytes: most connections never need it again.
        self.untaken = VecDeque::new();
        Ok(())
    }

    /// The number of bytes the host has not taken.
    pub(super) fn untaken_bytes(&self) -> usize {
        self.untaken.len()
    }

    /// Gives up what the host has not taken.
    pub(super) fn discard(&mut self) {
        self.untaken = VecDeque::new();
    }

    pub(super) fn close_for_host(&self, side: Shutdown) {
        // It fails only when the other end is gone, which makes it unnecessary.
        shutdown(&self.socket, side).ok();
    }

    /// Tells the host that the guest accepted.
    ///
    /// # Errors
    /// The host is gone.
    pub(super) fn confirm(&self, local_port: u32) -> io::Result<()> {
        let line = format!("OK {local_port}\n");
        let sent = send(&self.socket, line.as_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
        if sent == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

fn none_if_full(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(0),
        result => result,
    }
}

/// A host connection that has not said yet which port it wants.
#[derive(Debug)]
pub(super) struct Handshake {
    socket: OwnedFd,
    line: Vec<u8>,
}

/// How far a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HandshakeState {
    Incomplete,
    /// It wants this port of the guest.
    Wants(u32),
    /// It is gone, or spoke nonsense.
    Failed,
}

impl Handshake {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, line: Vec::new() }
    }

    pub(super) fn into_socket(self) -> HostSocket {
        HostSocket::new(self.socket)
    }

    /// Reads up to the end of the line and not a byte further: what follows belongs to the connection.
    pub(super) fn proceed(&mut self) -> HandshakeState {
        loop {
            let mut bytes = [0; MAX_COMMAND_BYTES];
            let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
            let peeked = match recv(&self.socket, &mut bytes, flags) {
                Ok((0, _)) => return HandshakeState::Failed,
                Ok((peeked, _)) => peeked,
                Err(rustix::io::Errno::AGAIN) => return HandshakeState::Incomplete,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return HandshakeState::Failed,
            };
            let end = bytes[..peeked].iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(peeked, |at| at + 1);
            if recv(&self.socket, &mut bytes[..taken], RecvFlags::DONTWAIT).is_err() {
                return HandshakeState::Failed;
            }
            self.line.extend_from_slice(&bytes[..taken]);
            if self.line.len() > MAX_COMMAND_BYTES {
                return HandshakeState::Failed;
            }
            if end.is_some() {
                return parse_command(&self.line).map_or(HandshakeState::Failed, HandshakeState::Wants);
            }
        }
    }
}

fn parse_command(line: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(line).ok()?.strip_prefix("CONNECT ")?.trim_end();
    // `parse` would take a sign.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn commands_name_a_port_or_fail() {
        assert_eq!(parse_command(b"CONNECT 1024\n"), Some(1024));
        assert_eq!(parse_command(b"CONNECT 4294967295\r\n"), Some(u32::MAX));
        for nonsense in
            ["CONNECT \n", "CONNECT 4294967296\n", "CONNECT +1\n", "connect 1\n", "GET / HTTP/1.1\n", "\n"]
        {
            assert_eq!(parse_command(nonsense.as_bytes()), None, "{nonsense:?}");
        }
    }

    #[test]
    fn a_handshake_may_come_in_parts_and_leaves_what_follows_it() {
        let (mut host, ours) = UnixStream::pair().unwrap();
        let mut handshake = Handshake::new(ours.into());
        host.write_all(b"CONN").unwrap();
        assert_eq!(handshake.proceed(), HandshakeState::Incomplete);
        host.write_all(b"ECT 52\nhello").unwrap();
        assert_eq!(handshake.proceed(), HandshakeState::Wants(52));
        let socket = handshake.into_socket();
        let mut rest = [0; 16];
        let (count, _) = recv(&socket.socket, &mut rest, RecvFlags::DONTWAIT).unwrap();
        assert_eq!(&rest[..count], b"hello");
    }

    #[test]
    fn a_handshake_that_never_ends_a_line_fails() {
        let (mut host, ours) = UnixStream::pair().unwrap();
        let mut handshake = Handshake::new(ours.into());
        host.write_all(&[b'x'; 100]).unwrap();
        assert_eq!(handshake.proceed(), HandshakeState::Failed);
    }
}
