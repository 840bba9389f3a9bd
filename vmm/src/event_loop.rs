//! Device work off the vCPUs' threads: waits for queue notifications and host descriptors, calls the devices.
//!
//! One thread, one epoll set. Host descriptors come and go as drivers start and reset their devices, which happens
//! on vCPU threads: see [`HostWatch`].

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::control::MachineExit;
use crate::jail::ThreadKind;
use crate::machine_thread;
use crate::virtio::mmio::MmioDevice;

/// Events fetched at a time: more than a machine's devices cause at once.
const BATCH: usize = 32;
const FOREVER_MS: i32 = -1;

/// What an event means. Travels as epoll's 64 bits of user data: a device's number and what of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Queue { device: u32, queue: u32 },
    Host { device: u32 },
    Stop,
}

/// No queue has this number.
const HOST: u32 = u32::MAX;
const STOP: u64 = u64::MAX;

impl Token {
    fn pack(self) -> u64 {
        match self {
            Self::Queue { device, queue } => u64::from(device) << 32 | u64::from(queue),
            Self::Host { device } => u64::from(device) << 32 | u64::from(HOST),
            Self::Stop => STOP,
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "takes apart the halves that pack() joined")]
    fn unpack(data: u64) -> Self {
        match ((data >> 32) as u32, data as u32) {
            _ if data == STOP => Self::Stop,
            (device, HOST) => Self::Host { device },
            (device, queue) => Self::Queue { device, queue },
        }
    }
}

fn add(epoll: &Epoll, fd: RawFd, token: Token) -> io::Result<()> {
    epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, token.pack()))
}

/// A loop before it runs: devices are added to it.
pub(crate) struct EventLoop {
    epoll: Arc<Epoll>,
    devices: Vec<Arc<MmioDevice>>,
}

impl EventLoop {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: Arc::new(Epoll::new()?), devices: Vec::new() })
    }

    /// For the device that is added next.
    pub(crate) fn next_host_watch(&self) -> HostWatch {
        HostWatch { epoll: self.epoll.clone(), device: self.next_device() }
    }

    /// From now on the device's notifications arrive here.
    pub(crate) fn add(&mut self, device: Arc<MmioDevice>) -> io::Result<()> {
        let notifiers = if device.is_served_elsewhere() { &[] } else { device.notifiers() };
        for (queue, notifier) in (0..).zip(notifiers) {
            add(&self.epoll, notifier.as_raw_fd(), Token::Queue { device: self.next_device(), queue })?;
        }
        self.devices.push(device);
        Ok(())
    }

    fn next_device(&self) -> u32 {
        u32::try_from(self.devices.len()).expect("a machine has fewer devices than interrupt lines")
    }

    /// Starts the thread. It runs until the result is dropped.
    pub(crate) fn start(self, kind: ThreadKind, exits: Sender<MachineExit>) -> io::Result<RunningLoop> {
        let name = kind.name();
        self.devices.iter().for_each(|device| device.prepare());
        let stop = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        add(&self.epoll, stop.as_raw_fd(), Token::Stop)?;
        let body = move || {
            let error = self.run().err()?;
            Some(MachineExit::Failed { message: format!("the event loop for {name} failed: {error}") })
        };
        let thread = machine_thread::spawn(kind, name.to_owned(), exits, body)?;
        Ok(RunningLoop { stop, thread: Some(thread) })
    }

    fn run(&self) -> io::Result<()> {
        while self.turn(FOREVER_MS)? != Turn::Stop {}
        Ok(())
    }

    /// Waits up to `timeout_ms` for events, and calls the devices they are for.
    pub(crate) fn turn(&self, timeout_ms: i32) -> io::Result<Turn> {
        let mut events = [EpollEvent::default(); BATCH];
        let ready = match self.epoll.wait(timeout_ms, &mut events) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            result => result?,
        };
        for event in &events[..ready] {
            match Token::unpack(event.data()) {
                Token::Stop => return Ok(Turn::Stop),
                Token::Queue { device, queue } => self.devices[device as usize].notified(queue as usize),
                Token::Host { device } => self.devices[device as usize].host_ready(),
            }
        }
        Ok(if ready == 0 { Turn::Idle } else { Turn::Worked })
    }
}

/// What one turn of a loop came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Worked,
    /// Nothing happened in the time given.
    Idle,
    Stop,
}

/// A loop on its thread. Dropping it stops the thread and waits for it.
pub(crate) struct RunningLoop {
    stop: EventFd,
    thread: Option<JoinHandle<()>>,
}

impl Drop for RunningLoop {
    fn drop(&mut self) {
        let stopped = self.stop.write(1);
        if let (Ok(()), Some(thread)) = (stopped, self.thread.take()) {
            // The thread catches its own panics.
            drop(thread.join());
        }
    }
}

/// Adds a device's host descriptor to its loop, and takes it out: it is level-triggered, so it may only be watched
/// while the device handles it.
pub(crate) struct HostWatch {
    epoll: Arc<Epoll>,
    device: u32,
}

impl HostWatch {
    pub(crate) fn start(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        add(&self.epoll, fd.as_raw_fd(), Token::Host { device: self.device })
    }

    pub(crate) fn stop(&self, fd: BorrowedFd<'_>) {
        // Fails where it was not watched, which is what the caller wants.
        drop(self.epoll.ctl(ControlOperation::Delete, fd.as_raw_fd(), EpollEvent::default()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_their_journey_through_epoll() {
        for token in [
            Token::Stop,
            Token::Host { device: 0 },
            Token::Host { device: 18 },
            Token::Queue { device: 0, queue: 0 },
            Token::Queue { device: 18, queue: 2 },
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
