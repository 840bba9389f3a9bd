//! Collects every child of PID 1 that has ended, and tells whoever is waiting for it.
//!
//! This is the only place that reaps. A process is announced with [`Reaper::watch`] before control returns to the event
//! loop, so its end cannot be seen before it is known; what was never announced is an orphan and is dropped.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::Interest;
use tokio::sync::oneshot;

use crate::sys::{self, End};

/// `struct signalfd_siginfo`, of which nothing is looked at.
const SIGNAL_INFO_BYTES: usize = 128;

/// The children that somebody waits for.
#[derive(Default)]
pub(crate) struct Reaper {
    watched: RefCell<BTreeMap<i32, oneshot::Sender<End>>>,
}

impl Reaper {
    /// The end of a child, when it comes.
    pub(crate) fn watch(&self, pid: i32) -> oneshot::Receiver<End> {
        let (sender, receiver) = oneshot::channel();
        self.watched.borrow_mut().insert(pid, sender);
        receiver
    }

    /// Reaps for as long as the machine runs.
    ///
    /// # Errors
    /// If child signals cannot be received; PID 1 is of no use then.
    pub(crate) async fn run(&self) -> io::Result<std::convert::Infallible> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGCHLD);
        signals.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&signals, flags)?.as_fd().try_clone_to_owned()?;
        let signals = sys::register(signals, Interest::READABLE)?;
        let mut received = [0; SIGNAL_INFO_BYTES];
        loop {
            self.reap_all();
            let mut guard = signals.readable().await?;
            // Several ends may share one signal: what counts is that there was one.
            while rustix::io::read(signals.get_ref(), &mut received).is_ok() {}
            guard.clear_ready();
        }
    }

    fn reap_all(&self) {
        while let Some((pid, end)) = sys::reap_any() {
            if let Some(watcher) = self.watched.borrow_mut().remove(&pid) {
                // Nobody waits any more for a stage whose start has failed.
                let _nobody_listens = watcher.send(end);
            }
        }
    }
}
