//! A device's interrupt: its line, and the status that tells the driver why (virtio 1.2, section 4.2.2).
//!
//! No lock: drivers read and acknowledge the status in their interrupt handlers while the device works.

use std::sync::atomic::{AtomicU32, Ordering};

use vmm_sys_util::eventfd::EventFd;

/// Bits of InterruptStatus.
const USED_BUFFERS: u32 = 1 << 0;
const CONFIGURATION_CHANGED: u32 = 1 << 1;

pub(super) struct Interrupt {
    status: AtomicU32,
    /// Always set.
    always: u32,
    line: EventFd,
}

impl Interrupt {
    /// `line` pulses the guest's interrupt line when it is written. If another process may write it too, there could be
    /// used buffers at any time: the status says so, and drivers look.
    pub(super) fn new(line: EventFd, has_other_writers: bool) -> Self {
        let always = if has_other_writers { USED_BUFFERS } else { 0 };
        Self { status: AtomicU32::new(0), always, line }
    }

    pub(super) fn used_buffers(&self) {
        self.raise(USED_BUFFERS);
    }

    pub(super) fn configuration_changed(&self) {
        self.raise(CONFIGURATION_CHANGED);
    }

    fn raise(&self, reason: u32) {
        self.status.fetch_or(reason, Ordering::SeqCst);
        // Only fails when 2^64 interrupts wait to be delivered; then one is on its way anyhow.
        drop(self.line.write(1));
    }

    pub(super) fn status(&self) -> u32 {
        self.status.load(Ordering::SeqCst) | self.always
    }

    pub(super) fn acknowledge(&self, reasons: u32) {
        self.status.fetch_and(!reasons, Ordering::SeqCst);
    }

    /// Whether a status has no bits but those that there are.
    pub(super) fn is_known(status: u32) -> bool {
        status & !(USED_BUFFERS | CONFIGURATION_CHANGED) == 0
    }

    /// As it was in another life, and [known](Self::is_known); the driver has not heard of it here.
    pub(super) fn restore(&self, status: u32) {
        self.status.store(status, Ordering::SeqCst);
    }

    /// Pulses the line if the driver has not acknowledged everything: the pulse may have been lost.
    pub(super) fn raise_again(&self) {
        if self.status() != 0 {
            self.raise(0);
        }
    }

    pub(super) fn reset(&self) {
        self.status.store(0, Ordering::SeqCst);
    }
}
