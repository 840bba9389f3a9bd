//! The lines of the console log about a disk whose files fail: few, however often the guest tries again.
//!
//! The guest itself is told by an I/O error; the counters count every one.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::console_log::ConsoleLog;

/// A file system retries and then gives up; who reads the log wants to know what began it.
const MAX_LINES: u32 = 8;

/// Where a disk's failures are told.
#[derive(Debug, Default)]
pub(super) struct Failures {
    log: OnceLock<(Arc<ConsoleLog>, usize)>,
    told: AtomicU32,
}

impl Failures {
    /// From now on failures of the machine's `index`-th disk are told to `log`.
    pub(super) fn tell(&self, log: Arc<ConsoleLog>, index: usize) {
        // Told once: a disk does not change its machine.
        self.log.set((log, index)).ok();
    }

    /// The host failed to do `what` for the guest.
    pub(super) fn add(&self, what: &str, error: &io::Error) {
        let Some((log, index)) = self.log.get() else { return };
        let told = self.told.fetch_add(1, Ordering::Relaxed);
        if told < MAX_LINES {
            let last = if told + 1 == MAX_LINES { "; further failures are only counted" } else { "" };
            log.append(format!("berth-vmm: disk {index}: cannot {what}: {error}{last}\n").as_bytes());
        } else {
            // It must not come round to zero.
            self.told.store(MAX_LINES, Ordering::Relaxed);
        }
    }
}
