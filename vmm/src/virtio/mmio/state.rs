//! A device's registers, queues and own state: held still, taken out, and put into a device of another machine.
//!
//! A saved state may be anybody's. It can do what a driver can do by writing registers, and nothing more: values that
//! no sequence of register writes leads to are refused.

use std::sync::MutexGuard;

use serde::{Deserialize, Serialize};
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::{Queue, QueueState, QueueT};

use super::MmioDevice;
use super::interrupt::Interrupt;
use super::registers::status;
use super::transport::Transport;
use crate::virtio::{Broken, DeviceState, StateError};

const KNOWN_STATUS: u32 = status::ACKNOWLEDGE
    | status::DRIVER
    | status::FEATURES_OK
    | status::DRIVER_OK
    | status::DEVICE_NEEDS_RESET
    | status::FAILED;

/// One device with its transport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SavedDevice {
    device: DeviceState,
    status: u32,
    interrupt_status: u32,
    config_generation: u32,
    device_features_select: u32,
    driver_features_select: u32,
    driver_features: u64,
    queue_select: u32,
    queues: Vec<SavedQueue>,
}

/// One queue: what the driver set up, and how far both sides are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SavedQueue {
    size: u16,
    is_ready: bool,
    next_available: u16,
    next_used: u16,
    descriptors: u64,
    available_ring: u64,
    used_ring: u64,
}

/// Why a device cannot go on from a state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceRestoreError {
    #[error(transparent)]
    Device(#[from] StateError),
    #[error("{saved} queues instead of {own}")]
    QueueCount { saved: usize, own: usize },
    #[error("queue {index}: {problem}")]
    Queue { index: usize, problem: String },
    #[error("no driver reaches status {status:#x} with features {features:#x}")]
    Status { status: u32, features: u64 },
    #[error("no device reaches interrupt status {0:#x}")]
    Interrupt(u32),
    #[error(transparent)]
    Broken(#[from] Broken),
}

impl SavedQueue {
    fn of(queue: &Queue) -> Self {
        let state = queue.state();
        Self {
            size: state.size,
            is_ready: state.ready,
            next_available: state.next_avail,
            next_used: state.next_used,
            descriptors: state.desc_table,
            available_ring: state.avail_ring,
            used_ring: state.used_ring,
        }
    }

    fn restore(&self, max_size: u16, event_idx_enabled: bool) -> Result<Queue, virtio_queue::Error> {
        Queue::try_from(QueueState {
            max_size,
            next_avail: self.next_available,
            next_used: self.next_used,
            event_idx_enabled,
            size: self.size,
            ready: self.is_ready,
            desc_table: self.descriptors,
            avail_ring: self.available_ring,
            used_ring: self.used_ring,
        })
    }
}

/// A device that does nothing, because everybody who could ask it to waits for this to be dropped.
pub(crate) struct HeldDevice<'d> {
    device: &'d MmioDevice,
    transport: MutexGuard<'d, Transport>,
}

impl MmioDevice {
    /// Brings to an end what the device is doing, and keeps it from doing more.
    pub(crate) fn hold(&self) -> HeldDevice<'_> {
        let mut transport = self.lock();
        if transport.is_active() {
            transport.work(&self.interrupt, |device, memory, queues| device.quiesce(memory, queues));
        }
        HeldDevice { device: self, transport }
    }

    /// Makes a device that no driver has touched what `saved` was.
    ///
    /// # Errors
    /// It was another device, or its state is one that no driver brings about.
    pub(crate) fn restore(&self, saved: &SavedDevice) -> Result<(), DeviceRestoreError> {
        if !Interrupt::is_known(saved.interrupt_status) {
            return Err(DeviceRestoreError::Interrupt(saved.interrupt_status));
        }
        self.lock().restore(saved)?;
        self.interrupt.restore(saved.interrupt_status);
        Ok(())
    }

    /// Goes on after [`Self::restore`]: tells the driver what is new, and looks at every queue, for notifications that
    /// were under way are lost. The machine's interrupt chips are as they were by now.
    pub(crate) fn resume(&self) {
        let mut transport = self.lock();
        if transport.is_active() {
            transport.work(&self.interrupt, |device, memory, queues| device.resume(memory, queues));
        }
        drop(transport);
        self.interrupt.raise_again();
        self.notify_all();
    }

    /// Has the event loop look at every queue.
    fn notify_all(&self) {
        for notifier in &self.notifiers {
            // Only fails when 2^64 notifications wait.
            drop(notifier.write(1));
        }
    }
}

impl HeldDevice<'_> {
    /// # Errors
    /// The device cannot be moved to another process.
    pub(crate) fn save(&self) -> Result<SavedDevice, StateError> {
        self.transport.save(&self.device.interrupt)
    }
}

impl Drop for HeldDevice<'_> {
    fn drop(&mut self) {
        // What was given back to a queue is taken out of it again.
        self.device.notify_all();
    }
}

impl Transport {
    fn save(&self, interrupt: &Interrupt) -> Result<SavedDevice, StateError> {
        Ok(SavedDevice {
            device: self.device.save()?,
            status: self.status,
            interrupt_status: interrupt.status(),
            config_generation: self.config_generation,
            device_features_select: self.device_features_select,
            driver_features_select: self.driver_features_select,
            driver_features: self.driver_features,
            queue_select: self.queue_select,
            queues: self.queues.iter().map(SavedQueue::of).collect(),
        })
    }

    fn restore(&mut self, saved: &SavedDevice) -> Result<(), DeviceRestoreError> {
        let queues = self.restored_queues(saved)?;
        if !self.is_reachable(saved) {
            let (status, features) = (saved.status, saved.driver_features);
            return Err(DeviceRestoreError::Status { status, features });
        }
        self.device.restore(&saved.device)?;
        self.queues = queues;
        self.status = saved.status;
        self.config_generation = saved.config_generation;
        self.device_features_select = saved.device_features_select;
        self.driver_features_select = saved.driver_features_select;
        self.driver_features = saved.driver_features;
        self.queue_select = saved.queue_select;
        if self.is_active() { Ok(self.start()?) } else { Ok(()) }
    }

    fn restored_queues(&self, saved: &SavedDevice) -> Result<Vec<Queue>, DeviceRestoreError> {
        let (saved_count, own) = (saved.queues.len(), self.queues.len());
        if saved_count != own {
            return Err(DeviceRestoreError::QueueCount { saved: saved_count, own });
        }
        let event_idx = saved.driver_features >> VIRTIO_RING_F_EVENT_IDX & 1 == 1;
        let restore = |(index, (saved, own)): (usize, (&SavedQueue, &Queue))| {
            let refused = |problem| DeviceRestoreError::Queue { index, problem };
            let queue = saved.restore(own.max_size(), event_idx).map_err(|e| refused(e.to_string()))?;
            if queue.ready() && !queue.is_valid(&self.memory) {
                return Err(refused("does not lie in memory".to_owned()));
            }
            Ok(queue)
        };
        saved.queues.iter().zip(&self.queues).enumerate().map(restore).collect()
    }

    /// Whether a driver that follows the order of initialisation can have brought this about.
    fn is_reachable(&self, saved: &SavedDevice) -> bool {
        let in_order = super::transport::STATUS_ORDER
            .iter()
            .all(|(bit, before)| saved.status & bit == 0 || saved.status & before == *before);
        let agreed = saved.status & status::FEATURES_OK == 0 || self.accepts(saved.driver_features);
        saved.status & !KNOWN_STATUS == 0 && in_order && agreed
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestAddress;
    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    use super::*;
    use crate::event_loop::EventLoop;
    use crate::memory::GuestMemoryMmap;
    use crate::virtio::Rng;
    use crate::virtio::mmio::Connections;

    /// An entropy device, which has one queue of 64, and its interrupt line.
    fn device() -> (MmioDevice, EventFd) {
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let connections = Connections {
            memory: GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap(),
            interrupt: line.try_clone().unwrap(),
            host_watch: EventLoop::new().unwrap().next_host_watch(),
            on_broken: Box::new(|_, broken| panic!("{broken}")),
        };
        (MmioDevice::new(Box::new(Rng), connections).unwrap(), line)
    }

    /// As an honest driver leaves it: ready, with an interrupt that it has not acknowledged.
    fn ready() -> SavedDevice {
        let queue = SavedQueue {
            size: 64,
            is_ready: true,
            next_available: 7,
            next_used: 7,
            descriptors: 0x1000,
            available_ring: 0x2000,
            used_ring: 0x3000,
        };
        SavedDevice {
            device: DeviceState::Rng,
            status: status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK,
            interrupt_status: 1,
            config_generation: 3,
            device_features_select: 1,
            driver_features_select: 1,
            driver_features: 1 << 32 | 1 << VIRTIO_RING_F_EVENT_IDX,
            queue_select: 0,
            queues: vec![queue],
        }
    }

    #[test]
    fn a_device_becomes_what_was_saved_and_its_line_is_pulsed_again() {
        let (device, line) = device();
        device.restore(&ready()).unwrap();
        assert_eq!(device.hold().save().unwrap(), ready());
        assert!(line.read().is_err(), "not before the machine's interrupt chips are there");
        device.resume();
        assert!(line.read().is_ok());
    }

    #[test]
    fn what_no_driver_brings_about_is_refused_and_changes_nothing() {
        type Change = fn(&mut SavedDevice);
        let changes: [(&str, Change); 9] = [
            ("an unknown status", |saved| saved.status |= 1 << 30),
            ("ready before features", |saved| saved.status &= !status::FEATURES_OK),
            ("a feature that was not offered", |saved| saved.driver_features |= 1 << 50),
            ("a legacy driver", |saved| saved.driver_features = 0),
            ("another device", |saved| saved.device = DeviceState::Console),
            ("another number of queues", |saved| saved.queues.clear()),
            ("a queue that is too long", |saved| saved.queues[0].size = 128),
            ("a queue outside memory", |saved| saved.queues[0].used_ring = 1 << 20),
            ("a queue at the end of addresses", |saved| saved.queues[0].descriptors = u64::MAX - 15),
        ];
        let (device, _line) = device();
        let untouched = device.hold().save().unwrap();
        for (what, change) in changes {
            let mut saved = ready();
            change(&mut saved);
            assert!(device.restore(&saved).is_err(), "{what}");
            assert_eq!(device.hold().save().unwrap(), untouched, "{what}");
        }
    }
}
