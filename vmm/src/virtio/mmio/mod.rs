//! The memory-mapped transport: a device's registers on the bus, its queues, its interrupt (virtio 1.2, section 4.2).
//!
//! ```text
//!   vCPU threads                                 the device's event loop
//!   register access ──> [MmioDevice] ──lock──> [Transport: device, queues] <──lock── notified, host_ready
//!   notification ─────> eventfd (by KVM itself, without leaving the guest's run loop) ──────^
//!   interrupt line <─── eventfd <── [Interrupt], which needs no lock
//! ```
//!
//! Version 2 only. Nothing here knows what kind of device it carries.

mod interrupt;
pub(crate) mod registers;
mod state;
#[cfg(test)]
pub(crate) mod tests;
mod transport;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use self::interrupt::Interrupt;
pub(crate) use self::registers::QUEUE_NOTIFY;
pub(crate) use self::state::{DeviceRestoreError, HeldDevice, SavedDevice};
use self::transport::{Bypass, Transport};
use super::{Broken, DeviceKind, VirtioDevice};
use crate::bus::BusDevice;
use crate::event_loop::HostWatch;
use crate::memory::GuestMemoryMmap;

/// What a device is connected to.
pub(crate) struct Connections {
    pub(crate) memory: GuestMemoryMmap,
    /// Pulses the device's interrupt line.
    pub(crate) interrupt: EventFd,
    pub(crate) host_watch: HostWatch,
    /// Told once when the device stops because it is [`Broken`].
    pub(crate) on_broken: OnBroken,
}

pub(crate) type OnBroken = Box<dyn Fn(DeviceKind, &Broken) + Send>;

/// A virtio device on the bus.
pub(crate) struct MmioDevice {
    interrupt: Interrupt,
    notifiers: Vec<EventFd>,
    is_served_elsewhere: bool,
    transport: Mutex<Transport>,
}

impl MmioDevice {
    pub(crate) fn new(device: Box<dyn VirtioDevice>, connections: Connections) -> io::Result<Self> {
        let notifiers = device.queue_sizes().iter().map(|_| EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK));
        let notifiers: Vec<EventFd> = notifiers.collect::<io::Result<_>>()?;
        let is_served_elsewhere = device.is_served_elsewhere();
        let bypass = is_served_elsewhere.then(|| Bypass::new(&notifiers, &connections.interrupt));
        Ok(Self {
            notifiers,
            is_served_elsewhere,
            interrupt: Interrupt::new(connections.interrupt, is_served_elsewhere),
            transport: Mutex::new(Transport::new(
                device,
                bypass.transpose()?,
                connections.memory,
                connections.host_watch,
                connections.on_broken,
            )),
        })
    }

    /// One descriptor for each queue, written when the driver notifies the device of new buffers.
    pub(crate) fn notifiers(&self) -> &[EventFd] {
        &self.notifiers
    }

    /// Another process waits for the notifications; here nobody must.
    pub(crate) fn is_served_elsewhere(&self) -> bool {
        self.is_served_elsewhere
    }

    /// To be called once before the device is served.
    pub(crate) fn prepare(&self) {
        self.lock().prepare();
    }

    /// The descriptor of queue `index` was written.
    pub(crate) fn notified(&self, index: usize) {
        let Some(notifier) = self.notifiers.get(index) else { return };
        // Nothing to be read: the event was already handled together with an earlier one.
        drop(notifier.read());
        self.lock().queue_event(index, &self.interrupt);
    }

    /// The device's host descriptor is readable.
    pub(crate) fn host_ready(&self) {
        self.lock().host_event(&self.interrupt);
    }

    /// Finishes every request that the device has taken.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn settle(&self) {
        self.lock().settle(&self.interrupt);
    }

    fn lock(&self) -> MutexGuard<'_, Transport> {
        self.transport.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_register(&self, offset: u64) -> u32 {
        match offset {
            registers::INTERRUPT_STATUS => self.interrupt.status(),
            _ => self.lock().read(offset),
        }
    }

    fn write_register(&self, offset: u64, value: u32) {
        match offset {
            registers::INTERRUPT_ACKNOWLEDGE => self.interrupt.acknowledge(value),
            // KVM handles those that are meant for a queue of ours, where it can.
            registers::QUEUE_NOTIFY => {
                if let Some(notifier) =
                    usize::try_from(value).ok().and_then(|index| self.notifiers.get(index))
                {
                    drop(notifier.write(1));
                }
            }
            _ => self.lock().write(offset, value, &self.interrupt),
        }
    }
}

impl BusDevice for MmioDevice {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(config_offset) = offset.checked_sub(registers::CONFIG) {
            self.lock().read_config(config_offset, data);
        } else if let Ok(register) = <&mut [u8; 4]>::try_from(data) {
            *register = self.read_register(offset).to_le_bytes();
        }
    }

    /// Registers have 32 bits; other widths are no access to them.
    fn write(&self, offset: u64, data: &[u8]) {
        if let Some(config_offset) = offset.checked_sub(registers::CONFIG) {
            self.lock().write_config(config_offset, data);
        } else if let Ok(value) = <[u8; 4]>::try_from(data) {
            self.write_register(offset, u32::from_le_bytes(value));
        }
    }
}
