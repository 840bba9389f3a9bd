//! The one descriptor that is readable when a card has something to do: frames that the guest has buffers for, or
//! work that was put off.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};

use super::tap::Tap;

#[derive(Debug)]
pub(super) struct Watch {
    epoll: OwnedFd,
    wake_up: OwnedFd,
    is_watching: bool,
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake_up = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake_up, EventData::new_u64(0), EventFlags::IN)?;
        Ok(Self { epoll, wake_up, is_watching: false })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// The descriptor becomes readable with the interface.
    pub(super) fn watch(&mut self, tap: &Tap) -> io::Result<()> {
        if !self.is_watching {
            epoll::add(&self.epoll, tap.as_fd(), EventData::new_u64(1), EventFlags::IN)?;
            self.is_watching = true;
        }
        Ok(())
    }

    /// Frames may wait, there is nowhere to put them.
    pub(super) fn ignore(&mut self, tap: &Tap) -> io::Result<()> {
        if self.is_watching {
            epoll::delete(&self.epoll, tap.as_fd())?;
            self.is_watching = false;
        }
        Ok(())
    }

    /// Makes the descriptor readable: there is work left for the next call.
    pub(super) fn wake_up(&self) {
        // It fails only when it is awake already, 2^64 times.
        rustix::io::write(&self.wake_up, &1u64.to_ne_bytes()).ok();
    }

    /// What makes the descriptor readable when it is written to.
    pub(super) fn wake_up_descriptor(&self) -> io::Result<OwnedFd> {
        self.wake_up.try_clone()
    }

    pub(super) fn was_woken_up(&self) -> bool {
        rustix::io::read(&self.wake_up, &mut [0; 8]).is_ok()
    }
}
