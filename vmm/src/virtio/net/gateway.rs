//! A user-mode network stack in the place of an interface: a stream of frames, each behind its length.
//!
//! The stack speaks with whoever it likes and is believed nothing: a length that is none ends the connection. When it is
//! gone the card has no carrier, and the guest goes on without.

use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::guard::Guard;
use super::header::{HEADER_BYTES, MAX_FRAME_BYTES, MIN_FRAME_BYTES};
use crate::config::{GatewayConfig, MacAddress};
use crate::host_files::HOST_FILES;

/// Before each frame, the highest byte first.
const LENGTH_BYTES: usize = 4;
/// Frames are read many at a time; one of the longest fits anyway.
const INBOUND_BYTES: usize = 2 * (LENGTH_BYTES + MAX_FRAME_BYTES);
/// Then frames wait in the guest until the stack has taken some.
const MAX_OUTBOUND_BYTES: usize = 128 << 10;

/// The connection to a stack.
#[derive(Debug)]
pub(crate) struct Gateway {
    socket: UnixStream,
    guard: Guard,
    inbound: Vec<u8>,
    /// What of `inbound` was read and is not taken yet.
    unread: std::ops::Range<usize>,
    /// Frames on their way, and how much of them is gone.
    outbound: Vec<u8>,
    sent: usize,
}

/// The stack is gone, or says what nobody understands.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Gateway {
    /// Connects to a stack for the card of that address, or takes the connection that was made for us.
    ///
    /// # Errors
    /// Nobody listens there.
    pub(crate) fn connect(config: &GatewayConfig, mac: MacAddress) -> io::Result<Self> {
        let socket = match HOST_FILES.take(&config.socket) {
            Some(connected) => connected.into(),
            None => HOST_FILES.connect(&config.socket)?,
        };
        let mut gateway = Self::over(socket, Guard::new(config.guest, config.address))?;
        gateway.announce(mac, config.guest);
        Ok(gateway)
    }

    /// Puts a frame on its way that says where the guest is (RFC 5227, section 2.3). The stack learns that from the guest's
    /// frames, and a guest that waits to be asked sends none: what comes for it first would be for everybody, which guests
    /// do not listen to.
    pub(super) fn announce(&mut self, MacAddress(mac): MacAddress, guest: Ipv4Addr) {
        let mut frame = [&[0xff; 6][..], &mac, &[0x08, 0x06]].concat();
        // Ethernet, IPv4, the lengths of their addresses, a request.
        frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(mac);
        frame.extend(guest.octets());
        frame.extend([0; 6]);
        frame.extend(guest.octets());
        let length = u32::try_from(frame.len()).expect("a short frame");
        self.outbound.extend(length.to_be_bytes());
        self.outbound.extend(frame);
    }

    /// Over a connection that somebody else made, for tests and fuzzing.
    ///
    /// # Errors
    /// It is no socket.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn of_socket(socket: UnixStream, guest: Ipv4Addr, address: Ipv4Addr) -> io::Result<Self> {
        Self::over(socket, Guard::new(guest, address))
    }

    fn over(socket: UnixStream, guard: Guard) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket, guard, inbound: Vec::new(), unread: 0..0, outbound: Vec::new(), sent: 0 })
    }

    /// The next frame, put behind room for a header into `place`; how long both are. Nothing if there is none now.
    pub(super) fn receive(&mut self, place: &mut [u8]) -> Result<Option<usize>, Gone> {
        loop {
            if let Some(frame) = self.next_frame()? {
                let bytes = self.inbound.get(frame).ok_or(Gone)?;
                let end = HEADER_BYTES + bytes.len();
                let place = place.get_mut(..end).ok_or(Gone)?;
                place[..HEADER_BYTES].fill(0);
                place[HEADER_BYTES..].copy_from_slice(bytes);
                self.guard.note(bytes);
                return Ok(Some(end));
            }
            if !self.read_more()? {
                return Ok(None);
            }
        }
    }

    /// Where the next whole frame is; it counts as taken.
    fn next_frame(&mut self) -> Result<Option<std::ops::Range<usize>>, Gone> {
        let unread = &self.inbound[self.unread.clone()];
        let Some((length, _rest)) = unread.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Gone)?;
        if !(MIN_FRAME_BYTES..=MAX_FRAME_BYTES).contains(&length) {
            return Err(Gone);
        }
        let start = self.unread.start + LENGTH_BYTES;
        let end = start + length;
        if end > self.unread.end {
            return Ok(None);
        }
        self.unread.start = end;
        Ok(Some(start..end))
    }

    /// Whether there was more to read.
    fn read_more(&mut self) -> Result<bool, Gone> {
        self.inbound.resize(INBOUND_BYTES, 0);
        self.inbound.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        loop {
            return match self.socket.read(&mut self.inbound[self.unread.end..]) {
                Ok(0) => Err(Gone),
                Ok(length) => {
                    self.unread.end += length;
                    Ok(true)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => Err(Gone),
            };
        }
    }

    /// Whether there is room for a frame; if not, the socket is writable when it is worth another look.
    pub(super) fn has_room(&mut self) -> Result<bool, Gone> {
        if self.outbound.len() - self.sent >= MAX_OUTBOUND_BYTES {
            self.flush()?;
        }
        Ok(self.outbound.len() - self.sent < MAX_OUTBOUND_BYTES)
    }

    /// Puts a frame on its way, which `fill` writes. Whether it may go.
    pub(super) fn send<E>(
        &mut self,
        frame_bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let begun = self.outbound.len();
        let length = u32::try_from(frame_bytes).unwrap_or(u32::MAX);
        self.outbound.extend(length.to_be_bytes());
        let start = self.outbound.len();
        self.outbound.resize(start + frame_bytes, 0);
        // In a copy that the guest cannot change any more.
        let frame = &mut self.outbound[start..];
        let filled = fill(frame);
        let is_admitted = filled.is_ok() && self.guard.admits(frame);
        if !is_admitted {
            self.outbound.truncate(begun);
        }
        filled.map(|()| is_admitted)
    }

    /// Gives the stack what it takes now. Whether that was everything.
    pub(super) fn flush(&mut self) -> Result<bool, Gone> {
        while self.sent < self.outbound.len() {
            match self.socket.write(&self.outbound[self.sent..]) {
                Ok(0) => return Err(Gone),
                Ok(length) => self.sent += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.outbound.drain(..self.sent);
                    self.sent = 0;
                    return Ok(false);
                }
                Err(_) => return Err(Gone),
            }
        }
        self.outbound.clear();
        self.sent = 0;
        Ok(true)
    }
}

impl AsFd for Gateway {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
