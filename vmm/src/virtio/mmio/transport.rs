//! What lies behind a device's lock: negotiation, queue setup, and the calls into the device.
//!
//! ```text
//!   reset ─ACKNOWLEDGE─DRIVER──> features ─FEATURES_OK──> queues ─DRIVER_OK──> active
//!     ^                                                                         │ Broken, or the driver's FAILED
//!     └─────────────────────────── Status = 0 ──────────────────────────── needs reset
//! ```
//!
//! Each register can be written in its phase only (virtio 1.2, section 3.1.1); elsewhere a write changes nothing.

use std::io;

use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_ring::{
    VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC, VRING_AVAIL_F_NO_INTERRUPT,
};
use virtio_queue::{Error as QueueError, Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::OnBroken;
use super::interrupt::Interrupt;
use super::registers::{self, status};
use crate::event_loop::HostWatch;
use crate::memory::GuestMemoryMmap;
use crate::virtio::{Broken, UsedQueues, VirtioDevice, Wires};

/// What the ring and the transport offer, whatever the device.
const RING_FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1 << VIRTIO_RING_F_INDIRECT_DESC;

/// Either side has given up.
const STOPPED: u32 = status::DEVICE_NEEDS_RESET | status::FAILED;

/// A status bit, and the one without which it means nothing.
pub(super) const STATUS_ORDER: [(u32, u32); 4] = [
    (status::ACKNOWLEDGE, 0),
    (status::DRIVER, status::ACKNOWLEDGE),
    (status::FEATURES_OK, status::DRIVER),
    (status::DRIVER_OK, status::FEATURES_OK),
];

/// What goes to the process that serves a device in our place.
pub(super) struct Bypass {
    kicks: Vec<EventFd>,
    call: EventFd,
}

impl Bypass {
    pub(super) fn new(notifiers: &[EventFd], interrupt: &EventFd) -> io::Result<Self> {
        let kicks = notifiers.iter().map(EventFd::try_clone).collect::<io::Result<_>>()?;
        Ok(Self { kicks, call: interrupt.try_clone()? })
    }
}

pub(super) struct Transport {
    pub(super) device: Box<dyn VirtioDevice>,
    bypass: Option<Bypass>,
    pub(super) memory: GuestMemoryMmap,
    pub(super) queues: Vec<Queue>,
    host_watch: HostWatch,
    on_broken: OnBroken,
    pub(super) status: u32,
    pub(super) config_generation: u32,
    pub(super) device_features_select: u32,
    pub(super) driver_features_select: u32,
    pub(super) driver_features: u64,
    pub(super) queue_select: u32,
}

impl Transport {
    pub(super) fn new(
        device: Box<dyn VirtioDevice>,
        bypass: Option<Bypass>,
        memory: GuestMemoryMmap,
        host_watch: HostWatch,
        on_broken: OnBroken,
    ) -> Self {
        let queues = device
            .queue_sizes()
            .iter()
            .map(|size| Queue::new(*size).expect("our devices' queue sizes are powers of two below 32768"));
        Self {
            queues: queues.collect(),
            device,
            bypass,
            memory,
            host_watch,
            on_broken,
            status: 0,
            config_generation: 0,
            device_features_select: 0,
            driver_features_select: 0,
            driver_features: 0,
            queue_select: 0,
        }
    }

    pub(super) fn read(&self, offset: u64) -> u32 {
        match offset {
            registers::MAGIC_VALUE => registers::MAGIC,
            registers::VERSION => registers::MODERN,
            registers::DEVICE_ID => self.device.kind() as u32,
            registers::VENDOR_ID => registers::VENDOR,
            registers::DEVICE_FEATURES => half(self.offered_features(), self.device_features_select),
            registers::QUEUE_SIZE_MAX => self.selected().map_or(0, |queue| queue.max_size().into()),
            registers::QUEUE_READY => self.selected().map_or(0, |queue| queue.ready().into()),
            registers::STATUS => self.status,
            registers::SHARED_MEMORY_FIRST..=registers::SHARED_MEMORY_LAST => u32::MAX,
            registers::CONFIG_GENERATION => self.config_generation,
            _ => 0,
        }
    }

    pub(super) fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.device.read_config(offset, data);
    }

    pub(super) fn write_config(&mut self, offset: u64, data: &[u8]) {
        self.device.write_config(offset, data);
    }

    pub(super) fn write(&mut self, offset: u64, value: u32, interrupt: &Interrupt) {
        match offset {
            registers::DEVICE_FEATURES_SELECT => self.device_features_select = value,
            registers::DRIVER_FEATURES_SELECT => self.driver_features_select = value,
            registers::DRIVER_FEATURES => self.choose_features(value),
            registers::QUEUE_SELECT => self.queue_select = value,
            registers::STATUS if value == 0 => self.reset(interrupt),
            registers::STATUS => self.advance(value, interrupt),
            _ => {
                if let Err(broken) = self.set_up_queue(offset, value) {
                    self.fail(&broken, interrupt);
                }
            }
        }
    }

    fn offered_features(&self) -> u64 {
        self.device.features() | RING_FEATURES & (self.device.ring_features() | 1 << VIRTIO_F_VERSION_1)
    }

    fn choose_features(&mut self, value: u32) {
        if !self.is_in_phase(status::DRIVER, status::FEATURES_OK) {
            return;
        }
        match self.driver_features_select {
            0 => self.driver_features = self.driver_features & !0xffff_ffff | u64::from(value),
            1 => self.driver_features = self.driver_features & 0xffff_ffff | u64::from(value) << 32,
            _ => {}
        }
    }

    /// Nothing that was not offered, and not a legacy driver.
    pub(super) fn accepts(&self, features: u64) -> bool {
        features & !self.offered_features() == 0 && features >> VIRTIO_F_VERSION_1 & 1 == 1
    }

    fn is_in_phase(&self, reached: u32, not_yet: u32) -> bool {
        self.status & reached == reached && self.status & not_yet == 0
    }

    pub(super) fn is_active(&self) -> bool {
        self.is_in_phase(status::DRIVER_OK, STOPPED)
    }

    /// Only a reset leads on.
    fn is_stopped(&self) -> bool {
        self.status & STOPPED != 0
    }

    fn selected(&self) -> Option<&Queue> {
        self.queues.get(usize::try_from(self.queue_select).ok()?)
    }

    fn set_up_queue(&mut self, offset: u64, value: u32) -> Result<(), Broken> {
        if !self.is_in_phase(status::FEATURES_OK, status::DRIVER_OK | STOPPED) {
            return Ok(());
        }
        let index = self.queue_select;
        let selected = usize::try_from(index).ok().and_then(|index| self.queues.get_mut(index));
        let Some(queue) = selected else { return Ok(()) };
        if queue.ready() && offset != registers::QUEUE_READY {
            return Ok(());
        }
        set_queue_register(queue, offset, value)
            .map_err(|error| Broken(format!("setup of queue {index} with {value:#x}: {error}")))
    }

    /// Takes the status bits the driver adds, as far as the order of initialisation allows them.
    fn advance(&mut self, value: u32, interrupt: &Interrupt) {
        if value & status::FAILED != 0 {
            self.status |= status::FAILED;
            self.stop_watching();
        }
        if self.is_stopped() {
            return;
        }
        for (bit, before) in STATUS_ORDER {
            let is_new = value & bit != 0 && self.status & bit == 0;
            if !is_new || self.status & before != before {
                continue;
            }
            if bit == status::FEATURES_OK && !self.accepts(self.driver_features) {
                continue;
            }
            self.status |= bit;
            if bit == status::DRIVER_OK {
                self.activate(interrupt);
            }
        }
    }

    fn activate(&mut self, interrupt: &Interrupt) {
        for (index, queue) in self.queues.iter_mut().enumerate().filter(|(_, queue)| queue.ready()) {
            if !queue.is_valid(&self.memory) {
                return self.fail(&Broken(format!("queue {index} does not lie in memory")), interrupt);
            }
            queue.set_event_idx(self.driver_features >> VIRTIO_RING_F_EVENT_IDX & 1 == 1);
        }
        if let Err(broken) = self.start() {
            self.fail(&broken, interrupt);
        }
    }

    fn hand_over(&mut self) -> Result<(), Broken> {
        let Some(Bypass { kicks, call }) = &self.bypass else { return Ok(()) };
        self.device.hand_over(&Wires { memory: &self.memory, queues: &self.queues, kicks, call })
    }

    pub(super) fn prepare(&mut self) {
        self.device.prepare();
    }

    /// Lets the device work with the features and queues that were agreed on.
    pub(super) fn start(&mut self) -> Result<(), Broken> {
        self.device.activate(self.driver_features);
        self.hand_over()?;
        let Some(fd) = self.device.host_fd() else { return Ok(()) };
        self.host_watch.start(fd).map_err(|error| Broken(format!("cannot watch its host side: {error}")))
    }

    fn reset(&mut self, interrupt: &Interrupt) {
        self.stop_watching();
        self.device.reset();
        self.queues.iter_mut().for_each(Queue::reset);
        self.status = 0;
        self.device_features_select = 0;
        self.driver_features_select = 0;
        self.driver_features = 0;
        self.queue_select = 0;
        interrupt.reset();
    }

    fn stop_watching(&self) {
        if let Some(fd) = self.device.host_fd() {
            self.host_watch.stop(fd);
        }
    }

    /// The driver broke the rules or the device cannot go on: only a reset helps (section 2.1.2).
    fn fail(&mut self, broken: &Broken, interrupt: &Interrupt) {
        self.stop_watching();
        self.status |= status::DEVICE_NEEDS_RESET;
        if self.status & status::DRIVER_OK != 0 {
            interrupt.configuration_changed();
        }
        (self.on_broken)(self.device.kind(), broken);
    }

    /// The driver made buffers available in queue `index`.
    pub(super) fn queue_event(&mut self, index: usize, interrupt: &Interrupt) {
        if self.is_active() && self.queues.get(index).is_some_and(Queue::ready) {
            self.work(interrupt, |device, memory, queues| device.queue_event(index, memory, queues));
        }
    }

    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn settle(&mut self, interrupt: &Interrupt) {
        if self.is_active() {
            self.work(interrupt, |device, memory, queues| device.quiesce(memory, queues));
        }
    }

    /// The host has something for the device.
    pub(super) fn host_event(&mut self, interrupt: &Interrupt) {
        if self.is_active() {
            self.work(interrupt, |device, memory, queues| device.host_event(memory, queues));
        }
    }

    pub(super) fn work(
        &mut self,
        interrupt: &Interrupt,
        call: impl FnOnce(
            &mut dyn VirtioDevice,
            &GuestMemoryMmap,
            &mut [&mut Queue],
        ) -> Result<UsedQueues, Broken>,
    ) {
        let mut queues: Vec<&mut Queue> = self.queues.iter_mut().collect();
        let used = call(&mut *self.device, &self.memory, &mut queues);
        if used.as_ref().is_ok_and(|used| used.has_configuration()) {
            // So that a driver that reads several fields knows that they belong together (section 2.5.2).
            self.config_generation = self.config_generation.wrapping_add(1);
            interrupt.configuration_changed();
        }
        match used.and_then(|used| self.is_interrupt_wanted(used)) {
            Ok(true) => interrupt.used_buffers(),
            Ok(false) => {}
            Err(broken) => self.fail(&broken, interrupt),
        }
    }

    /// Asks every queue that was `used`: each remembers how far it has asked.
    fn is_interrupt_wanted(&mut self, used: UsedQueues) -> Result<bool, Broken> {
        let mut wanted = used.has_interrupt();
        for (index, queue) in self.queues.iter_mut().enumerate() {
            if used.contains(index) && queue.ready() {
                wanted |= wants_interrupt(queue, &self.memory)?;
            }
        }
        Ok(wanted)
    }
}

/// Whether the driver asked to hear of what was just used (section 2.7.7).
fn wants_interrupt(queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<bool, Broken> {
    if queue.event_idx_enabled() {
        return queue.needs_notification(memory).map_err(|error| ring_error(&error));
    }
    // The crude form, which `needs_notification` leaves out: a flag at the beginning of the available ring.
    let flags: u16 = memory
        .read_obj(GuestAddress(queue.avail_ring()))
        .map_err(|error| ring_error(&QueueError::GuestMemory(error)))?;
    Ok(u32::from(flags) & VRING_AVAIL_F_NO_INTERRUPT == 0)
}

fn ring_error(error: &QueueError) -> Broken {
    Broken(format!("its rings cannot be used: {error}"))
}

/// 32 of 64 bits; there are no others.
fn half(value: u64, select: u32) -> u32 {
    match select {
        0 => (value & 0xffff_ffff) as u32,
        1 => (value >> 32) as u32,
        _ => 0,
    }
}

/// Sizes that are no power of two or too large, and misaligned addresses, are errors; whether an address lies in
/// memory is known when all are set.
fn set_queue_register(queue: &mut Queue, offset: u64, value: u32) -> Result<(), QueueError> {
    match offset {
        registers::QUEUE_SIZE => {
            queue.try_set_size(u16::try_from(value).map_err(|_| QueueError::InvalidSize)?)?;
        }
        registers::QUEUE_READY => queue.set_ready(value == 1),
        registers::QUEUE_DESCRIPTORS_LOW if !value.is_multiple_of(16) => {
            return Err(QueueError::InvalidDescTableAlign);
        }
        registers::QUEUE_DESCRIPTORS_LOW => queue.set_desc_table_address(Some(value), None),
        registers::QUEUE_DESCRIPTORS_HIGH => queue.set_desc_table_address(None, Some(value)),
        registers::QUEUE_AVAILABLE_LOW if !value.is_multiple_of(2) => {
            return Err(QueueError::InvalidAvailRingAlign);
        }
        registers::QUEUE_AVAILABLE_LOW => queue.set_avail_ring_address(Some(value), None),
        registers::QUEUE_AVAILABLE_HIGH => queue.set_avail_ring_address(None, Some(value)),
        registers::QUEUE_USED_LOW if !value.is_multiple_of(4) => {
            return Err(QueueError::InvalidUsedRingAlign);
        }
        registers::QUEUE_USED_LOW => queue.set_used_ring_address(Some(value), None),
        registers::QUEUE_USED_HIGH => queue.set_used_ring_address(None, Some(value)),
        _ => {}
    }
    Ok(())
}
