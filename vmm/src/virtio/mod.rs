//! Virtio devices, written once against queues and guest memory, with two transports.
//!
//! A device knows neither how the guest reaches it nor who runs the guest: a transport (`mmio` under KVM,
//! `vhost_user` under QEMU) negotiates features, owns the queues, and calls the device with them. A device reads
//! every descriptor as the hostile guest's word: bounded, checked, and on nonsense it answers [`Broken`], after
//! which its transport stops it (DEVICE_NEEDS_RESET, virtio 1.2, section 2.1.2). It never panics.

use std::os::fd::BorrowedFd;

use virtio_queue::Queue;
use vmm_sys_util::eventfd::EventFd;

use crate::memory::GuestMemoryMmap;

mod balloon;
mod block;
mod chain;
mod console;
pub(crate) mod fs;
mod guest_io;
pub(crate) mod mmio;
pub(crate) mod net;
mod rng;
mod state;
#[cfg(test)]
pub(crate) mod test_driver;
pub(crate) mod vhost_user;
mod vsock;

pub(crate) use self::balloon::{Balloon, BalloonHandle};
pub(crate) use self::block::{BindError, Block, Disk};
pub(crate) use self::console::Console;
pub(crate) use self::fs::{Share, ShareError};
pub(crate) use self::net::{BindingError, CardHandle, Gateway, HostEnd, NetworkCard, Tap};
pub use self::net::{TapError, make_tap, open_tap};
pub(crate) use self::rng::Rng;
pub(crate) use self::state::{DeviceState, StateError};
pub(crate) use self::vsock::{Vsock, VsockStatistics};

/// What kind of device it is, with its number (virtio 1.2, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum DeviceKind {
    Network = 1,
    Block = 2,
    Console = 3,
    Rng = 4,
    Balloon = 5,
    Vsock = 19,
    FileSystem = 26,
}

/// The device cannot go on: the guest's driver broke the rules, or the host failed it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Broken(pub(crate) String);

/// Queues to which the device has added used buffers; the transport notifies the driver if it wants to hear of it.
/// Says besides whether the configuration space has changed, of which the driver hears in any case, and whether the
/// device found out by itself that the driver wants to hear of used buffers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UsedQueues(u64);

/// In the places of queues that no device has.
const CONFIGURATION: u32 = 63;
const INTERRUPT: u32 = 62;

impl UsedQueues {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn add(&mut self, queue: usize) {
        self.0 |= 1 << queue;
    }

    pub(crate) fn contains(self, queue: usize) -> bool {
        self.0 >> queue & 1 == 1
    }

    pub(crate) fn add_configuration(&mut self) {
        self.0 |= 1 << CONFIGURATION;
    }

    pub(crate) fn add_interrupt(&mut self) {
        self.0 |= 1 << INTERRUPT;
    }

    pub(crate) fn has_interrupt(self) -> bool {
        self.0 >> INTERRUPT & 1 == 1
    }

    pub(crate) fn has_configuration(self) -> bool {
        self.0 >> CONFIGURATION & 1 == 1
    }
}

/// How the driver and a device that another process serves reach each other: past us.
pub(crate) struct Wires<'w> {
    pub(crate) memory: &'w GuestMemoryMmap,
    /// Each set up and checked by the transport, or not ready.
    pub(crate) queues: &'w [Queue],
    /// Written when the driver notifies the device, by queue. Nobody here reads them.
    pub(crate) kicks: &'w [EventFd],
    /// To be written when the driver is to be interrupted.
    pub(crate) call: &'w EventFd,
}

/// A device. All calls come from one thread at a time; queues are indexed as in its section of the specification.
pub(crate) trait VirtioDevice: Send {
    fn kind(&self) -> DeviceKind;

    /// The largest size of each queue.
    fn queue_sizes(&self) -> &'static [u16];

    /// Device feature bits; the transport adds the ring's and `VIRTIO_F_VERSION_1`.
    fn features(&self) -> u64;

    /// Which features of rings whoever serves the queues understands, of those that the transport has.
    fn ring_features(&self) -> u64 {
        u64::MAX
    }

    /// Whether another process serves the queues: [`Self::hand_over`] follows [`Self::activate`], and there are no
    /// queue events.
    fn is_served_elsewhere(&self) -> bool {
        false
    }

    /// Tells the process that serves the queues where they are.
    ///
    /// # Errors
    /// The process is gone, or does not do what it should.
    fn hand_over(&mut self, _wires: &Wires<'_>) -> Result<(), Broken> {
        Ok(())
    }

    /// Reads the device's configuration space; bytes beyond its end are zeros.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// The driver writes to the configuration space. What is not there, or not the driver's to write, stays as it is.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    /// Called once before the device is served, maybe when the guest runs already: for what needs more of the host than
    /// serving does. A device that was not prepared works too.
    fn prepare(&mut self) {}

    /// The driver is ready: these features were negotiated, the queues may be used.
    fn activate(&mut self, features: u64);

    /// Back to the state before [`Self::activate`]; nothing may be kept of what the guest said.
    fn reset(&mut self);

    /// The driver made buffers available in queue `index`.
    fn queue_event(
        &mut self,
        index: usize,
        memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken>;

    /// A descriptor that becomes readable when the host has something for the guest; watched level-triggered.
    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// [`Self::host_fd`] is readable.
    fn host_event(
        &mut self,
        _memory: &GuestMemoryMmap,
        _queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        Ok(UsedQueues::NONE)
    }

    /// Finishes every request it has taken, or gives it back to its queue. From when this returns until the next call,
    /// nothing of the device touches guest memory. Called on active devices only.
    fn quiesce(
        &mut self,
        _memory: &GuestMemoryMmap,
        _queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        Ok(UsedQueues::NONE)
    }

    /// What the device must remember for its driver beyond queues and features. Comes after [`Self::quiesce`].
    ///
    /// # Errors
    /// The device, or its host side, cannot be moved to another process.
    fn save(&self) -> Result<DeviceState, StateError>;

    /// Takes over what [`Self::save`] gave in another life, in a device that no driver has touched. If the driver was
    /// ready then, [`Self::activate`] follows, and then [`Self::resume`].
    ///
    /// # Errors
    /// The state is another device's, or nonsense: nothing was taken over.
    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError>;

    /// The driver goes on, in another process than before: it is told what changed meanwhile.
    fn resume(
        &mut self,
        _memory: &GuestMemoryMmap,
        _queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        Ok(UsedQueues::NONE)
    }
}

/// Copies a configuration space's bytes from `offset` on; beyond its end are zeros.
fn copy_config(config: &[u8], offset: u64, data: &mut [u8]) {
    data.fill(0);
    let rest = usize::try_from(offset).ok().and_then(|offset| config.get(offset..)).unwrap_or_default();
    let length = rest.len().min(data.len());
    data[..length].copy_from_slice(&rest[..length]);
}
