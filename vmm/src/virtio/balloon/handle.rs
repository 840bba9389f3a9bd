//! The host's end of a balloon: the control thread sets its size and reads what came of it.
//!
//! Both threads hold the same [`BalloonHandle`]; the device's is woken up by a descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use super::PAGES_PER_MIB;
use crate::control::{BalloonCounters, GuestMemoryStatistics};

/// Why a balloon cannot have a size.
#[derive(Debug, thiserror::Error)]
#[error("a balloon of {target_mib} MiB is more than the machine's memory of {memory_mib} MiB")]
pub(crate) struct TooLarge {
    target_mib: u32,
    memory_mib: u32,
}

/// One balloon, shared by its device and the control thread.
#[derive(Debug)]
pub(crate) struct BalloonHandle {
    memory_mib: u32,
    target_pages: AtomicU32,
    pub(super) target_changed: AtomicBool,
    pub(super) statistics_wanted: AtomicBool,
    pub(super) actual_pages: AtomicU32,
    pub(super) inflated_bytes: AtomicU64,
    pub(super) reported_bytes: AtomicU64,
    statistics: Mutex<Option<GuestMemoryStatistics>>,
    wake_up: OwnedFd,
}

impl BalloonHandle {
    pub(super) fn new(target_mib: u32, memory_mib: u32) -> io::Result<Self> {
        Ok(Self {
            memory_mib,
            target_pages: AtomicU32::new(pages(target_mib)),
            target_changed: AtomicBool::new(false),
            statistics_wanted: AtomicBool::new(false),
            actual_pages: AtomicU32::new(0),
            inflated_bytes: AtomicU64::new(0),
            reported_bytes: AtomicU64::new(0),
            statistics: Mutex::new(None),
            wake_up: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// The guest is asked to have a balloon of this size.
    ///
    /// # Errors
    /// The machine has less memory.
    pub(crate) fn set_target(&self, target_mib: u32) -> Result<(), TooLarge> {
        let memory_mib = self.memory_mib;
        if target_mib > memory_mib {
            return Err(TooLarge { target_mib, memory_mib });
        }
        self.target_pages.store(pages(target_mib), Ordering::SeqCst);
        self.target_changed.store(true, Ordering::SeqCst);
        self.wake_up();
        Ok(())
    }

    /// What is known now. Asks the guest for its statistics besides, for the next time.
    pub(crate) fn counters(&self) -> BalloonCounters {
        self.statistics_wanted.store(true, Ordering::SeqCst);
        self.wake_up();
        BalloonCounters {
            target_mib: self.target_pages() / PAGES_PER_MIB,
            actual_mib: self.actual_pages.load(Ordering::SeqCst) / PAGES_PER_MIB,
            inflated_bytes: self.inflated_bytes.load(Ordering::SeqCst),
            reported_bytes: self.reported_bytes.load(Ordering::SeqCst),
            guest: *self.statistics.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    pub(super) fn target_pages(&self) -> u32 {
        self.target_pages.load(Ordering::SeqCst)
    }

    pub(super) fn set_statistics(&self, statistics: Option<GuestMemoryStatistics>) {
        *self.statistics.lock().unwrap_or_else(PoisonError::into_inner) = statistics;
    }

    fn wake_up(&self) {
        // It fails only when the device has been woken up 2^64 times and sleeps still.
        rustix::io::write(&self.wake_up, &1u64.to_ne_bytes()).ok();
    }

    /// The device is awake.
    pub(super) fn awake(&self) {
        // Nothing to be read: it was woken up for this already.
        rustix::io::read(&self.wake_up, &mut [0; 8]).ok();
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake_up.as_fd()
    }
}

/// The configuration bounds memory, and with it balloons, far below 2^32 pages.
fn pages(mib: u32) -> u32 {
    mib.saturating_mul(PAGES_PER_MIB)
}
