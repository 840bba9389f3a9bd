//! A driver at the level of registers against a device that does as little as possible, and a hostile one.

mod configuration;
mod restored;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::registers::{self, status};
use super::{Connections, MmioDevice};
use crate::bus::BusDevice;
use crate::event_loop::EventLoop;
use crate::jail::ThreadKind;
use crate::memory::GuestMemoryMmap;
use crate::virtio::{Broken, DeviceKind, DeviceState, StateError, UsedQueues, VirtioDevice, state};

const MEMORY_BYTES: usize = 1 << 20;
const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
/// A device feature that may be negotiated.
const FEATURE: u32 = 1 << 5;
/// Features that every driver of ours takes: VIRTIO_F_VERSION_1, as bits 63:32.
const VERSION_1: u32 = 1;

/// Gives every buffer back, and a buffer for each host event.
pub(crate) struct Mirror {
    host: Option<OwnedFd>,
    /// How often the device was reset, and whether it answers everything with [`Broken`].
    resets: Arc<AtomicUsize>,
    breaks: bool,
    config: [u8; 6],
    config_changes: bool,
}

impl Mirror {
    pub(crate) fn new() -> Self {
        let config = *b"config";
        Self { host: None, resets: Arc::default(), breaks: false, config, config_changes: false }
    }

    fn give_back(memory: &GuestMemoryMmap, queue: &mut Queue) -> Result<(), Broken> {
        while let Some(chain) = queue.pop_descriptor_chain(memory) {
            queue.add_used(memory, chain.head_index(), 1).map_err(|error| Broken(error.to_string()))?;
        }
        Ok(())
    }
}

impl VirtioDevice for Mirror {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Rng
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[8, 4]
    }

    fn features(&self) -> u64 {
        FEATURE.into()
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        for (byte, value) in data.iter_mut().zip(self.config.iter().skip(usize::try_from(offset).unwrap())) {
            *byte = *value;
        }
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if let (Ok(offset @ 0..6), [byte]) = (usize::try_from(offset), data) {
            self.config[offset] = *byte;
        }
    }

    fn activate(&mut self, _features: u64) {}

    fn reset(&mut self) {
        self.resets.fetch_add(1, Ordering::SeqCst);
    }

    fn queue_event(
        &mut self,
        index: usize,
        memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        if self.breaks {
            return Err(Broken("it was told to".to_owned()));
        }
        Self::give_back(memory, queues[index])?;
        let mut used = UsedQueues::NONE;
        used.add(index);
        if self.config_changes {
            used.add_configuration();
        }
        Ok(used)
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        self.host.as_ref().map(AsFd::as_fd)
    }

    fn host_event(
        &mut self,
        memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        rustix::io::read(self.host.as_ref().unwrap(), &mut [0; 8]).unwrap();
        self.queue_event(1, memory, queues)
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        Ok(DeviceState::Rng)
    }

    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        state::expect_same(state, DeviceState::Rng)
    }
}

/// The device, and what its driver and its host can see of it.
struct Bench {
    device: Arc<MmioDevice>,
    memory: GuestMemoryMmap,
    interrupt: EventFd,
    resets: Arc<AtomicUsize>,
    broken: Arc<Mutex<Vec<String>>>,
    event_loop: Option<EventLoop>,
}

impl Bench {
    fn new(mirror: Mirror) -> Self {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap();
        let interrupt = EventFd::new(EFD_NONBLOCK).unwrap();
        let broken = Arc::new(Mutex::new(Vec::new()));
        let resets = mirror.resets.clone();
        let mut event_loop = EventLoop::new().unwrap();
        let connections = Connections {
            memory: memory.clone(),
            interrupt: interrupt.try_clone().unwrap(),
            host_watch: event_loop.next_host_watch(),
            on_broken: {
                let broken = broken.clone();
                Box::new(move |_, reason| broken.lock().unwrap().push(reason.to_string()))
            },
        };
        let device = Arc::new(MmioDevice::new(Box::new(mirror), connections).unwrap());
        event_loop.add(device.clone()).unwrap();
        Self { device, memory, interrupt, resets, broken, event_loop: Some(event_loop) }
    }

    fn read(&self, offset: u64) -> u32 {
        let mut data = [0xaa; 4];
        self.device.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn write(&self, offset: u64, value: u32) {
        self.device.write(offset, &value.to_le_bytes());
    }

    /// Up to and with FEATURES_OK; gives the status then read.
    fn negotiate(&self, low: u32, high: u32) -> u32 {
        self.write(registers::STATUS, status::ACKNOWLEDGE);
        self.write(registers::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        for (select, half) in [(0, low), (1, high)] {
            self.write(registers::DRIVER_FEATURES_SELECT, select);
            self.write(registers::DRIVER_FEATURES, half);
        }
        self.add_status(status::FEATURES_OK);
        self.read(registers::STATUS)
    }

    fn add_status(&self, bit: u32) {
        self.write(registers::STATUS, self.read(registers::STATUS) | bit);
    }

    fn set_up_queue(&self, index: u32, size: u32, descriptors: u64) {
        self.write(registers::QUEUE_SELECT, index);
        self.write(registers::QUEUE_SIZE, size);
        let base = u64::from(index) * 0x4000;
        let halves = |address: u64| (u32::try_from(address & 0xffff_ffff).unwrap(), (address >> 32) as u32);
        for (offset, address) in [
            (registers::QUEUE_DESCRIPTORS_LOW, base + descriptors),
            (registers::QUEUE_AVAILABLE_LOW, base + AVAILABLE),
            (registers::QUEUE_USED_LOW, base + USED),
        ] {
            self.write(offset, halves(address).0);
            self.write(offset + 4, halves(address).1);
        }
        self.write(registers::QUEUE_READY, 1);
    }

    /// A driver that did everything right.
    fn active(mirror: Mirror) -> Self {
        let bench = Self::new(mirror);
        bench.negotiate(0, VERSION_1);
        bench.set_up_queue(0, 8, DESCRIPTORS);
        bench.set_up_queue(1, 4, DESCRIPTORS);
        bench.add_status(status::DRIVER_OK);
        bench
    }

    /// Makes descriptor 0 (64 bytes at 0x8000) available in queue `index`, `times` in all.
    fn offer(&self, index: u64, times: u16) {
        let base = index * 0x4000;
        self.memory.write_obj(0x8000u64, GuestAddress(base + DESCRIPTORS)).unwrap();
        self.memory.write_obj(64u32, GuestAddress(base + DESCRIPTORS + 8)).unwrap();
        self.memory.write_obj(times, GuestAddress(base + AVAILABLE + 2)).unwrap();
    }

    fn used(&self, index: u64) -> u16 {
        self.memory.read_obj(GuestAddress(index * 0x4000 + USED + 2)).unwrap()
    }

    fn needs_reset(&self) -> bool {
        self.read(registers::STATUS) & status::DEVICE_NEEDS_RESET != 0
    }
}

#[test]
fn the_device_introduces_itself() {
    let bench = Bench::new(Mirror::new());
    assert_eq!(bench.read(registers::MAGIC_VALUE).to_le_bytes(), *b"virt");
    assert_eq!(bench.read(registers::VERSION), 2);
    assert_eq!(bench.read(registers::DEVICE_ID), 4);
    assert_eq!(bench.read(registers::DEVICE_FEATURES) & FEATURE, FEATURE);
    bench.write(registers::DEVICE_FEATURES_SELECT, 1);
    assert_eq!(bench.read(registers::DEVICE_FEATURES), VERSION_1);
    bench.write(registers::DEVICE_FEATURES_SELECT, 2);
    assert_eq!(bench.read(registers::DEVICE_FEATURES), 0);
    assert_eq!(bench.read(registers::QUEUE_SIZE_MAX), 8);
    bench.write(registers::QUEUE_SELECT, 1);
    assert_eq!(bench.read(registers::QUEUE_SIZE_MAX), 4);
    assert_eq!(bench.read(registers::SHARED_MEMORY_FIRST), u32::MAX);
}

#[test]
fn buffers_come_back_with_an_interrupt() {
    let bench = Bench::active(Mirror::new());
    bench.offer(0, 1);
    bench.device.notified(0);
    assert_eq!(bench.used(0), 1);
    assert_eq!(bench.interrupt.read().unwrap(), 1);
    assert_eq!(bench.read(registers::INTERRUPT_STATUS), 1);
    bench.write(registers::INTERRUPT_ACKNOWLEDGE, 1);
    assert_eq!(bench.read(registers::INTERRUPT_STATUS), 0);
}

#[test]
fn a_driver_that_wants_no_interrupts_gets_none() {
    let bench = Bench::active(Mirror::new());
    bench.memory.write_obj(1u16, GuestAddress(AVAILABLE)).unwrap(); // VIRTQ_AVAIL_F_NO_INTERRUPT
    bench.offer(0, 1);
    bench.device.notified(0);
    assert_eq!(bench.used(0), 1);
    assert!(bench.interrupt.read().is_err());
}

#[test]
fn with_event_indices_the_driver_hears_of_what_it_asked_for() {
    const EVENT_IDX: u32 = 1 << 29;
    let bench = Bench::new(Mirror::new());
    bench.negotiate(EVENT_IDX, VERSION_1);
    bench.set_up_queue(0, 8, DESCRIPTORS);
    bench.add_status(status::DRIVER_OK);
    bench.offer(0, 3);
    bench.device.notified(0);
    assert_eq!(bench.interrupt.read().unwrap(), 1);
    // The driver wants to hear of the fifth used buffer only: used_event follows the available ring's.
    bench.memory.write_obj(4u16, GuestAddress(AVAILABLE + 4 + 2 * 8)).unwrap();
    bench.offer(0, 4);
    bench.device.notified(0);
    assert!(bench.interrupt.read().is_err());
    bench.offer(0, 5);
    bench.device.notified(0);
    assert_eq!(bench.interrupt.read().unwrap(), 1);
}

#[test]
fn a_notification_that_left_the_guest_reaches_the_same_descriptor() {
    let bench = Bench::active(Mirror::new());
    bench.write(registers::QUEUE_NOTIFY, 1);
    assert!(bench.device.notifiers()[1].read().is_ok());
    for nobody in [2, 0xffff, u32::MAX] {
        bench.write(registers::QUEUE_NOTIFY, nobody);
    }
    assert!(bench.device.notifiers()[0].read().is_err());
}

#[test]
fn host_events_are_handled_on_the_loop_only_while_the_device_is_active() {
    let host = eventfd(0, EventfdFlags::empty()).unwrap();
    let mirror = Mirror { host: Some(host.try_clone().unwrap()), ..Mirror::new() };
    let mut bench = Bench::new(mirror);
    // Ready before the driver is: a loop that watched already would call a device that is not active.
    rustix::io::write(&host, &1u64.to_ne_bytes()).unwrap();
    let running = bench.event_loop.take().unwrap().start(ThreadKind::Devices, channel().0).unwrap();
    bench.negotiate(0, VERSION_1);
    bench.set_up_queue(1, 4, DESCRIPTORS);
    bench.offer(1, 1);
    bench.add_status(status::DRIVER_OK);
    while bench.used(1) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    bench.write(registers::STATUS, 0);
    rustix::io::write(&host, &1u64.to_ne_bytes()).unwrap();
    drop(running);
    assert!(rustix::io::read(&host, &mut [0; 8]).is_ok(), "nobody took the event after the reset");
}

#[test]
fn only_offered_features_of_a_modern_driver_are_accepted() {
    let accepted = |low, high| Bench::new(Mirror::new()).negotiate(low, high) & status::FEATURES_OK != 0;
    assert!(accepted(FEATURE, VERSION_1));
    assert!(!accepted(FEATURE, 0));
    assert!(!accepted(1 << 6, VERSION_1));
    assert!(!accepted(0, VERSION_1 | 1 << 31));
}

#[test]
fn steps_out_of_order_do_nothing() {
    let bench = Bench::new(Mirror::new());
    bench.write(registers::STATUS, status::DRIVER_OK);
    assert_eq!(bench.read(registers::STATUS), 0);
    bench.set_up_queue(0, 8, DESCRIPTORS);
    assert_eq!(bench.read(registers::QUEUE_READY), 0);
    bench.negotiate(FEATURE, VERSION_1);
    bench.write(registers::DRIVER_FEATURES_SELECT, 0);
    bench.write(registers::DRIVER_FEATURES, u32::MAX);
    bench.set_up_queue(0, 8, DESCRIPTORS);
    assert_eq!(bench.read(registers::QUEUE_READY), 1);
    bench.add_status(status::DRIVER_OK);
    assert!(!bench.needs_reset());
}

#[test]
fn a_notification_before_the_driver_is_ready_does_nothing() {
    let bench = Bench::new(Mirror::new());
    bench.device.notified(0);
    bench.negotiate(0, VERSION_1);
    bench.set_up_queue(0, 8, DESCRIPTORS);
    bench.offer(0, 1);
    bench.device.notified(0);
    bench.device.notified(7);
    assert_eq!(bench.used(0), 0);
    assert!(!bench.needs_reset());
}

#[test]
fn queue_sizes_that_are_none_stop_the_device() {
    for size in [0, 3, 16, 0x1_0008, u32::MAX] {
        let bench = Bench::new(Mirror::new());
        bench.negotiate(0, VERSION_1);
        bench.set_up_queue(0, size, DESCRIPTORS);
        bench.set_up_queue(1, size, DESCRIPTORS);
        bench.add_status(status::DRIVER_OK);
        assert!(bench.needs_reset(), "{size}");
        assert_eq!(bench.broken.lock().unwrap().len(), 1, "said once");
        bench.offer(0, 1);
        bench.device.notified(0);
        assert_eq!(bench.used(0), 0, "{size}");
    }
}

#[test]
fn rings_outside_of_memory_or_misaligned_stop_the_device() {
    for descriptors in [MEMORY_BYTES as u64 - 16, MEMORY_BYTES as u64, 0xffff_ffff_ffff_fff0, 1 << 40, 0x1008]
    {
        let bench = Bench::new(Mirror::new());
        bench.negotiate(0, VERSION_1);
        bench.set_up_queue(0, 8, descriptors);
        bench.add_status(status::DRIVER_OK);
        assert!(bench.needs_reset(), "{descriptors:#x}");
        bench.device.notified(0);
    }
}

#[test]
fn queues_that_do_not_exist_can_be_selected_and_written() {
    for index in [2, 0xffff, u32::MAX] {
        let bench = Bench::new(Mirror::new());
        bench.negotiate(0, VERSION_1);
        bench.write(registers::QUEUE_SELECT, index);
        assert_eq!(bench.read(registers::QUEUE_SIZE_MAX), 0);
        bench.write(registers::QUEUE_SIZE, 8);
        bench.write(registers::QUEUE_READY, 1);
        assert_eq!(bench.read(registers::QUEUE_READY), 0);
        assert!(!bench.needs_reset());
    }
}

#[test]
fn an_available_index_that_runs_ahead_stops_the_device_or_harms_nothing() {
    let bench = Bench::active(Mirror::new());
    bench.offer(0, 0x4000);
    bench.device.notified(0);
    assert!(bench.used(0) <= 8);
}

#[test]
fn a_broken_device_says_so_once_and_rests_until_reset() {
    let mirror = Mirror { breaks: true, ..Mirror::new() };
    let bench = Bench::active(mirror);
    bench.offer(0, 1);
    for _ in 0..3 {
        bench.device.notified(0);
    }
    assert!(bench.needs_reset());
    assert_eq!(*bench.broken.lock().unwrap(), ["it was told to"]);
    assert_eq!(bench.read(registers::INTERRUPT_STATUS), 2);
    bench.write(registers::STATUS, 0);
    assert_eq!(bench.read(registers::STATUS), 0);
    assert_eq!(bench.read(registers::INTERRUPT_STATUS), 0);
    assert_eq!(bench.resets.load(Ordering::SeqCst), 1);
}

#[test]
fn a_driver_that_gave_up_stays_so_until_it_resets() {
    let bench = Bench::new(Mirror::new());
    bench.negotiate(0, VERSION_1);
    bench.set_up_queue(0, 8, DESCRIPTORS);
    bench.write(registers::STATUS, status::FAILED);
    bench.write(
        registers::STATUS,
        status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK | status::DRIVER_OK,
    );
    assert_eq!(bench.read(registers::STATUS) & status::DRIVER_OK, 0);
    bench.offer(0, 1);
    bench.device.notified(0);
    assert_eq!(bench.used(0), 0);
}

#[test]
fn after_a_reset_the_device_starts_from_nothing() {
    let bench = Bench::active(Mirror::new());
    bench.write(registers::STATUS, 0);
    bench.offer(0, 1);
    bench.device.notified(0);
    assert_eq!(bench.used(0), 0);
    assert_eq!(bench.read(registers::QUEUE_READY), 0);
    bench.negotiate(FEATURE, VERSION_1);
    bench.set_up_queue(0, 8, DESCRIPTORS);
    bench.add_status(status::DRIVER_OK);
    bench.device.notified(0);
    assert_eq!(bench.used(0), 1);
}

#[test]
fn odd_widths_and_offsets_are_no_registers() {
    let bench = Bench::active(Mirror::new());
    for width in [1, 2, 8] {
        let mut data = vec![0xaa; width];
        bench.device.read(registers::MAGIC_VALUE, &mut data);
        assert!(data.iter().all(|byte| *byte == 0));
        bench.device.write(registers::STATUS, &vec![0; width]);
    }
    assert_eq!(bench.read(0x006), 0);
    bench.write(0xffc, 0);
    assert_eq!(bench.read(registers::STATUS) & status::DRIVER_OK, status::DRIVER_OK);
}

proptest::proptest! {
    /// Whatever is written where, the device does not panic, and a reset brings it back.
    #[test]
    fn any_writes_leave_a_device_that_can_be_reset(
        writes in proptest::collection::vec((0u64..0x110, proptest::prelude::any::<u32>(), 0usize..3), 0..200)
    ) {
        let bench = Bench::active(Mirror::new());
        for (offset, value, queue) in writes {
            bench.write(offset & !3, value);
            bench.read(offset & !3);
            bench.device.notified(queue);
        }
        bench.write(registers::STATUS, 0);
        bench.memory.write_obj(0u64, GuestAddress(USED)).unwrap();
        bench.negotiate(0, VERSION_1);
        bench.set_up_queue(0, 8, DESCRIPTORS);
        bench.offer(0, 1);
        bench.add_status(status::DRIVER_OK);
        bench.device.notified(0);
        assert_eq!(bench.used(0), 1);
    }
}
