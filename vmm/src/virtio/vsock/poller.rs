//! The one descriptor that becomes readable when any of the device's host sockets has news.
//!
//! Sockets are watched edge-triggered: they are registered once, and whoever reads remembers what is left.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};

/// Names a watched socket; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Token(pub(super) u64);

/// The token of the poller's own wake-up.
const WAKE_UP: Token = Token(0);

/// Events taken in one go.
const BATCH: usize = 64;

/// What happened to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) token: Token,
    /// There are bytes to read, or the end of them.
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The other end will send no more; what it sent before may still be there to read.
    pub(super) ended: bool,
    /// The other end is closed altogether, not only for sending.
    pub(super) hung_up: bool,
}

#[derive(Debug)]
pub(super) struct Poller {
    epoll: OwnedFd,
    wake_up: OwnedFd,
}

impl Poller {
    /// # Errors
    /// No more descriptors.
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake_up = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let poller = Self { epoll, wake_up };
        poller.watch(&poller.wake_up, WAKE_UP)?;
        Ok(poller)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Watches a socket's input and its end, until it is closed.
    pub(super) fn watch(&self, socket: impl AsFd, token: Token) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(&self.epoll, socket, EventData::new_u64(token.0), flags)?)
    }

    /// Watches, besides, for room to write, while `wanted`.
    pub(super) fn watch_room(&self, socket: impl AsFd, token: Token, wanted: bool) -> io::Result<()> {
        let input = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        let flags = if wanted { input | EventFlags::OUT } else { input };
        Ok(epoll::modify(&self.epoll, socket, EventData::new_u64(token.0), flags)?)
    }

    /// Makes the descriptor readable: there is work left for the next call.
    pub(super) fn wake_up(&self) {
        // It fails only when it is awake already, 2^64 times.
        rustix::io::write(&self.wake_up, &1u64.to_ne_bytes()).ok();
    }

    /// What happened since the last call, as much as fits one batch.
    pub(super) fn news(&self) -> io::Result<Vec<News>> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; BATCH];
        let count = match epoll::wait(&self.epoll, &mut events, Some(&now)) {
            Err(rustix::io::Errno::INTR) => 0,
            result => result?,
        };
        let mut news: Vec<News> = events[..count].iter().map(from_event).collect();
        if news.iter().any(|one| one.token == WAKE_UP) {
            rustix::io::read(&self.wake_up, &mut [0; 8]).ok();
            news.retain(|one| one.token != WAKE_UP);
        }
        Ok(news)
    }
}

fn from_event(event: &Event) -> News {
    let (flags, data) = (event.flags, event.data);
    let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR);
    let ended = broken || flags.contains(EventFlags::RDHUP);
    News {
        token: Token(data.u64()),
        readable: ended || flags.contains(EventFlags::IN),
        writable: flags.contains(EventFlags::OUT),
        ended,
        hung_up: broken,
    }
}
