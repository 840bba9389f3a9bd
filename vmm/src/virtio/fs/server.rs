//! The process that serves a share, as the vhost-user protocol shows it: requests, and replies to some of them.
//!
//! It has all of the guest's memory in its hands, so the guest must trust it; we need not. What it says is bounded and
//! checked, and it has a deadline for every reply: a processor of the guest waits while a driver starts. The protocol
//! is vhost-user.rst in QEMU's documentation; the `vhost` crate's front end would wait for a silent server for ever.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, recvmsg};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

/// For all replies to one request of ours together with it.
const PATIENCE: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 5000 });

/// A message's header: what it is, flags, and the length of what follows.
const HEADER_BYTES: usize = 12;
const PROTOCOL_VERSION: u32 = 1;
const VERSION_MASK: u32 = 3;
const IS_REPLY: u32 = 1 << 2;
/// Every reply that we wait for is one number, or two half as long.
const REPLY_BYTES: usize = 8;

/// What we ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Request {
    GetFeatures = 1,
    SetFeatures = 2,
    SetOwner = 3,
    SetMemoryTable = 5,
    SetRingSize = 8,
    SetRingAddress = 9,
    SetRingBase = 10,
    GetRingBase = 11,
    SetRingKick = 12,
    SetRingCall = 13,
    GetProtocolFeatures = 15,
    SetProtocolFeatures = 16,
    GetQueueCount = 17,
    SetRingEnable = 18,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    #[error("its server is gone")]
    Gone,
    #[error("its server does not answer {0:?} in time")]
    Silent(Request),
    #[error("its server answers {0:?} with something else")]
    Nonsense(Request),
    #[error("its server cannot be talked to: {0}")]
    Io(#[from] io::Error),
}

/// The connection; the server lets go of the guest's memory when it ends.
#[derive(Debug)]
pub(super) struct Server(UnixStream);

impl Server {
    pub(super) fn over(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Sends a request that is not answered.
    pub(super) fn tell(
        &self,
        request: Request,
        body: &[u8],
        descriptors: &[RawFd],
    ) -> Result<(), ServerError> {
        let length = u32::try_from(body.len()).expect("our messages are short");
        let header = [request as u32, PROTOCOL_VERSION, length].map(u32::to_le_bytes);
        match self.0.send_with_fds(&[header.as_flattened(), body], descriptors) {
            Ok(sent) if sent == HEADER_BYTES + body.len() => Ok(()),
            // A server that reads keeps up with the few messages of a start.
            Ok(_) => Err(ServerError::Silent(request)),
            Err(error) => Err(match error.errno() {
                libc::EPIPE | libc::ECONNRESET => ServerError::Gone,
                libc::EAGAIN => ServerError::Silent(request),
                _ => ServerError::Io(error.into()),
            }),
        }
    }

    /// Sends a request and waits for its answer.
    pub(super) fn ask(&self, request: Request, body: &[u8]) -> Result<u64, ServerError> {
        self.tell(request, body, &[])?;
        let mut reply = [0; HEADER_BYTES + REPLY_BYTES];
        let end = Instant::now() + PATIENCE;
        let mut received = 0;
        while received < reply.len() {
            match self.receive(&mut reply[received..], RecvFlags::DONTWAIT) {
                Ok(0) | Err(Errno::CONNRESET) => return Err(ServerError::Gone),
                Ok(length) => received += length,
                Err(Errno::AGAIN | Errno::INTR) => self.wait(end).ok_or(ServerError::Silent(request))?,
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| reply[at + byte]));
        let is_reply = word(4) & (VERSION_MASK | IS_REPLY) == PROTOCOL_VERSION | IS_REPLY;
        if word(0) == request as u32 && is_reply && word(8) as usize == REPLY_BYTES {
            Ok(u64::from(word(HEADER_BYTES)) | u64::from(word(HEADER_BYTES + 4)) << 32)
        } else {
            Err(ServerError::Nonsense(request))
        }
    }

    /// What it means that the socket is readable although nothing was asked.
    pub(super) fn interruption(&self) -> Option<&'static str> {
        match self.receive(&mut [0], RecvFlags::DONTWAIT | RecvFlags::PEEK) {
            Err(Errno::AGAIN | Errno::INTR) => None,
            Ok(0) | Err(_) => Some("its server is gone"),
            Ok(_) => Some("its server speaks without being asked"),
        }
    }

    /// Descriptors that come along are closed by the kernel: there is no room for them.
    fn receive(&self, into: &mut [u8], flags: RecvFlags) -> rustix::io::Result<usize> {
        let mut control = RecvAncillaryBuffer::new(&mut []);
        let received = recvmsg(&self.0, &mut [IoSliceMut::new(into)], &mut control, flags)?;
        Ok(received.bytes)
    }

    /// Until there is something to read; `None` when it is too late.
    fn wait(&self, end: Instant) -> Option<()> {
        let left = end.checked_duration_since(Instant::now())?;
        let left = Timespec::try_from(left).ok()?;
        // What it says, or an interruption, shows at the next attempt to read.
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&left)).ok();
        Some(())
    }
}
