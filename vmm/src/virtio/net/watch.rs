//! The one descriptor that is readable when a card has something to do: frames that the guest has buffers for, room for
//! frames of the guest's, work that was put off, or a wait that is over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use super::host_end::HostEnd;

const WAKE_UP: u64 = 0;
const HOST_END: u64 = 1;
const TIMER: u64 = 2;

#[derive(Debug)]
pub(super) struct Watch {
    epoll: OwnedFd,
    wake_up: OwnedFd,
    timer: OwnedFd,
    /// When the timer is over, if it runs.
    rings_at: Option<Instant>,
    /// Of the card's end on the host.
    watched: EventFlags,
}

impl Watch {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake_up = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &wake_up, EventData::new_u64(WAKE_UP), EventFlags::IN)?;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK)?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        Ok(Self { epoll, wake_up, timer, rings_at: None, watched: EventFlags::empty() })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// The descriptor becomes readable with frames for the guest, or does not: they may wait with nowhere to put them.
    pub(super) fn for_frames(&mut self, end: &HostEnd, watched: bool) -> io::Result<()> {
        self.set(end, EventFlags::IN, watched)
    }

    /// The same with room for frames of the guest's.
    pub(super) fn for_room(&mut self, end: &HostEnd, watched: bool) -> io::Result<()> {
        self.set(end, EventFlags::OUT, watched)
    }

    pub(super) fn is_for_room(&self) -> bool {
        self.watched.contains(EventFlags::OUT)
    }

    /// Nothing of the card's end is looked at any more.
    pub(super) fn forget(&mut self, end: &HostEnd) -> io::Result<()> {
        self.set(end, EventFlags::IN | EventFlags::OUT, false)
    }

    fn set(&mut self, end: &HostEnd, events: EventFlags, watched: bool) -> io::Result<()> {
        let before = self.watched;
        let mut after = before;
        after.set(events, watched);
        let data = EventData::new_u64(HOST_END);
        match (before.is_empty(), after.is_empty()) {
            _ if before == after => {}
            (true, _) => epoll::add(&self.epoll, end.as_fd(), data, after)?,
            (_, true) => epoll::delete(&self.epoll, end.as_fd())?,
            _ => epoll::modify(&self.epoll, end.as_fd(), data, after)?,
        }
        self.watched = after;
        Ok(())
    }

    /// Makes the descriptor readable: there is work left for the next call.
    pub(super) fn wake_up(&self) {
        // It fails only when it is awake already, 2^64 times.
        rustix::io::write(&self.wake_up, &1u64.to_ne_bytes()).ok();
    }

    /// Makes it readable after a while, or earlier.
    pub(super) fn wake_up_in(&mut self, wait: Duration) -> io::Result<()> {
        let rings_at = Instant::now() + wait;
        if self.rings_at.is_some_and(|at| at <= rings_at) {
            return Ok(());
        }
        let once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec::try_from(wait).map_err(io::Error::other)?;
        let setting = Itimerspec { it_interval: once, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)?;
        self.rings_at = Some(rings_at);
        Ok(())
    }

    /// What makes the descriptor readable when it is written to.
    pub(super) fn wake_up_descriptor(&self) -> io::Result<OwnedFd> {
        self.wake_up.try_clone()
    }

    pub(super) fn was_woken_up(&self) -> bool {
        rustix::io::read(&self.wake_up, &mut [0; 8]).is_ok()
    }

    /// Whether a wait is over.
    pub(super) fn has_rung(&mut self) -> bool {
        let rung = self.rings_at.is_some() && rustix::io::read(&self.timer, &mut [0; 8]).is_ok();
        if rung {
            self.rings_at = None;
        }
        rung
    }
}
