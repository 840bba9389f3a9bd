//! What is behind a card on the host: an interface, or a user-mode network stack.

use std::os::fd::{AsFd, BorrowedFd};

use super::gateway::{Gateway, Gone};
use super::tap::Tap;

#[derive(Debug)]
pub(crate) enum HostEnd {
    Tap(Tap),
    Gateway(Box<Gateway>),
}

impl HostEnd {
    /// For messages.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Tap(tap) => tap.name(),
            Self::Gateway(_) => "a network stack",
        }
    }

    /// `TUN_F_` bits. A stack takes whole frames and gives whole ones.
    pub(super) fn known_offloads(&self) -> u32 {
        match self {
            Self::Tap(tap) => tap.known_offloads(),
            Self::Gateway(_) => 0,
        }
    }

    /// What was negotiated. The offloads were tried when an interface was opened; it can only be gone, which shows at
    /// the first frame.
    pub(super) fn set_offloads(&self, offloads: u32) {
        if let Self::Tap(tap) = self {
            tap.set_offloads(offloads).ok();
        }
    }

    /// Whether it takes a frame now. An interface drops what it cannot take.
    pub(super) fn has_room(&mut self) -> Result<bool, Gone> {
        match self {
            Self::Tap(_) => Ok(true),
            Self::Gateway(gateway) => gateway.has_room(),
        }
    }

    /// Whether everything that was sent is gone.
    pub(super) fn flush(&mut self) -> Result<bool, Gone> {
        match self {
            Self::Tap(_) => Ok(true),
            Self::Gateway(gateway) => gateway.flush(),
        }
    }
}

impl AsFd for HostEnd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tap(tap) => tap.as_fd(),
            Self::Gateway(gateway) => gateway.as_fd(),
        }
    }
}
