//! A device behind its transport, on the test's own thread, and the driver's side of its queues.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::guest_space::{BUFFERS, GuestSpace};
use crate::bus::BusDevice;
use crate::event_loop::{EventLoop, Turn};
use crate::virtio::VirtioDevice;
use crate::virtio::mmio::registers::{self, status};
use crate::virtio::mmio::{Connections, MmioDevice};

pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const INDIRECT: u16 = 4;
pub(super) const DESCRIPTOR_BYTES: u64 = 16;
const VERSION_1: u64 = 1 << 32;
const EVENT_INDEX: u64 = 1 << 29;
const INDIRECT_DESCRIPTORS: u64 = 1 << 28;

/// Each queue has so much memory: descriptors, available ring, used ring, a page for each.
const QUEUE_BYTES: u64 = 0x3000;
const FIRST_QUEUE: u64 = 0x1000;
const MAX_QUEUES: usize = 5;
/// A device that is still at it after so many turns spins.
const MAX_TURNS: usize = 20_000;
/// Descriptors of indirect tables that are looked at before the device is called; behind them nothing is checked.
const MAX_INDIRECT_DESCRIPTORS: u64 = 1 << 16;

/// One queue as the driver placed it.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueuePlace {
    pub(super) table: u64,
    pub(super) available: u64,
    pub(super) used: u64,
    pub(super) size: u16,
    /// The driver's own count of chains it made available.
    pub(super) offered: u16,
    pub(super) next_slot: u16,
}

pub(super) struct Bench {
    pub(super) space: GuestSpace,
    pub(super) queues: Vec<QueuePlace>,
    pub(super) device: Arc<MmioDevice>,
    event_loop: EventLoop,
    broken: Arc<AtomicUsize>,
    next_buffer: u64,
    /// Whether each change of a page must be noted for the next snapshot: to look costs more than all the rest.
    watches_notes: bool,
}

thread_local! {
    /// Mapping memory anew for every input would be most of the time.
    static SPACE: Cell<Option<GuestSpace>> = const { Cell::new(None) };
}

impl Bench {
    /// A device that no driver has touched yet.
    pub(super) fn new(device: Box<dyn VirtioDevice>) -> Self {
        let mut space = SPACE.take().unwrap_or_else(GuestSpace::zeroed);
        space.set_always_lawless(false);
        space.clear();
        let count = device.queue_sizes().len();
        assert!(count <= MAX_QUEUES, "the space below {:#x} is for {MAX_QUEUES} queues", BUFFERS.start);
        let queues = device.queue_sizes().iter().zip(0u64..).map(|(size, index)| {
            let table = FIRST_QUEUE + index * QUEUE_BYTES;
            let (available, used) = (table + 0x1000, table + 0x2000);
            QueuePlace { table, available, used, size: *size, offered: 0, next_slot: 0 }
        });
        let queues = queues.collect();
        let mut event_loop = EventLoop::new().expect("the host has descriptors");
        let broken = Arc::new(AtomicUsize::new(0));
        let connections = Connections {
            memory: space.memory.clone(),
            interrupt: EventFd::new(EFD_NONBLOCK).expect("the host has descriptors"),
            host_watch: event_loop.next_host_watch(),
            on_broken: {
                let broken = broken.clone();
                Box::new(move |_, _| {
                    broken.fetch_add(1, Ordering::Relaxed);
                })
            },
        };
        let device = Arc::new(MmioDevice::new(device, connections).expect("the host has descriptors"));
        event_loop.add(device.clone()).expect("the host has descriptors");
        Self { space, queues, device, event_loop, broken, next_buffer: BUFFERS.start, watches_notes: true }
    }

    /// The device may write anywhere: its driver can name every address.
    pub(super) fn writes_anywhere(&mut self) {
        self.space.set_always_lawless(true);
    }

    /// From now on it is looked whether changes are noted, or not.
    pub(super) fn watch_notes(&mut self, watch: bool) {
        self.watches_notes = watch;
    }

    pub(super) fn read(&self, offset: u64) -> u32 {
        let mut data = [0xaa; 4];
        self.device.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// A read of any width.
    pub(super) fn read_any(&self, offset: u64, width: usize) {
        let mut data = [0xaa; 8];
        self.device.read(offset, &mut data[..width]);
    }

    pub(super) fn write_any(&self, offset: u64, data: &[u8]) {
        self.device.write(offset, data);
    }

    pub(super) fn write(&self, offset: u64, value: u32) {
        self.device.write(offset, &value.to_le_bytes());
    }

    pub(super) fn status(&self) -> u32 {
        self.read(registers::STATUS)
    }

    /// Resets the device and starts it as an honest driver does, with as many of the offered features as `mask`
    /// leaves, on memory full of zeros.
    pub(super) fn start(&mut self, mask: u64) {
        self.write(registers::STATUS, 0);
        assert_eq!(self.status(), 0, "a reset leads back to the beginning");
        self.space.clear();
        self.broken.store(0, Ordering::Relaxed);
        self.write(registers::STATUS, status::ACKNOWLEDGE);
        self.write(registers::STATUS, status::ACKNOWLEDGE | status::DRIVER);
        let halves = [0, 1].map(|half| {
            self.write(registers::DEVICE_FEATURES_SELECT, half);
            self.read(registers::DEVICE_FEATURES)
        });
        let offered = u64::from(halves[0]) | u64::from(halves[1]) << 32;
        let chosen = offered & (mask | VERSION_1);
        for half in [0u32, 1] {
            self.write(registers::DRIVER_FEATURES_SELECT, half);
            let value = u32::try_from(chosen >> (32 * half) & 0xffff_ffff).expect("32 bits");
            self.write(registers::DRIVER_FEATURES, value);
        }
        let negotiated = status::ACKNOWLEDGE | status::DRIVER | status::FEATURES_OK;
        self.write(registers::STATUS, negotiated);
        assert_eq!(self.status(), negotiated, "what is offered may be chosen");
        for index in 0..self.queues.len() {
            self.place_queue(index);
        }
        self.write(registers::STATUS, negotiated | status::DRIVER_OK);
        assert_eq!(self.status(), negotiated | status::DRIVER_OK, "an honest driver's device starts");
        self.next_buffer = BUFFERS.start;
    }

    /// The features that drivers like ours choose.
    pub(super) const HONEST: u64 = !(EVENT_INDEX | INDIRECT_DESCRIPTORS);

    fn place_queue(&mut self, index: usize) {
        let queue = &mut self.queues[index];
        (queue.offered, queue.next_slot) = (0, 0);
        let queue = *queue;
        self.write(registers::QUEUE_SELECT, u32::try_from(index).expect("few queues"));
        self.write(registers::QUEUE_SIZE, queue.size.into());
        for (offset, address) in [
            (registers::QUEUE_DESCRIPTORS_LOW, queue.table),
            (registers::QUEUE_AVAILABLE_LOW, queue.available),
            (registers::QUEUE_USED_LOW, queue.used),
        ] {
            self.write(offset, u32::try_from(address).expect("low memory"));
            self.write(offset + 4, 0);
        }
        self.write(registers::QUEUE_READY, 1);
        self.space.allow(queue.used, 6 + 8 * u64::from(queue.size));
    }

    /// Room for a buffer; they are handed out in a circle.
    pub(super) fn reserve(&mut self, length: usize) -> u64 {
        let length = length as u64;
        if self.next_buffer + length > BUFFERS.end {
            self.next_buffer = BUFFERS.start;
        }
        let address = self.next_buffer;
        self.next_buffer += length;
        address
    }

    pub(super) fn describe(&mut self, queue: usize, slot: u16, descriptor: &[u8; 16]) {
        let queue = self.queues[queue];
        self.space.write(queue.table + DESCRIPTOR_BYTES * u64::from(slot % queue.size), descriptor);
    }

    /// Makes the chain at `head` available.
    pub(super) fn offer(&mut self, queue: usize, head: u16) {
        let place = &mut self.queues[queue];
        let slot = place.available + 4 + 2 * u64::from(place.offered % place.size);
        place.offered = place.offered.wrapping_add(1);
        let (index, offered) = (place.available + 2, place.offered);
        self.space.write(slot, &head.to_le_bytes());
        self.space.write(index, &offered.to_le_bytes());
    }

    /// Tells the device of a queue's buffers, and lets it work until it is done.
    pub(super) fn notify(&mut self, queue: u32) {
        self.write(registers::QUEUE_NOTIFY, queue);
        self.run();
    }

    /// Lets the device work on what happened.
    pub(super) fn run(&mut self) {
        self.allow_what_is_offered();
        if self.watches_notes {
            self.space.begin_work();
        }
        let mut turns = (0..MAX_TURNS).map(|_| self.event_loop.turn(0).expect("epoll works"));
        assert!(turns.any(|turn| turn == Turn::Idle), "the device never comes to rest");
        // What it goes on with by itself is part of its work too.
        self.device.settle();
        if self.watches_notes {
            self.space.end_work();
        }
    }

    /// Every writable descriptor in the tables is one that the device may be using.
    fn allow_what_is_offered(&mut self) {
        let mut tables: Vec<(u64, u64)> = Vec::new();
        let mut looked_at = 0;
        for queue in self.queues.clone() {
            tables.push((queue.table, DESCRIPTOR_BYTES * u64::from(queue.size)));
            for descriptor in self.descriptors(queue.table, queue.size.into()) {
                if descriptor.flags & INDIRECT == 0 {
                    self.allow(descriptor);
                    continue;
                }
                let count = u64::from(descriptor.length) / DESCRIPTOR_BYTES;
                looked_at += count.min(BUFFERS.end);
                if looked_at > MAX_INDIRECT_DESCRIPTORS {
                    return self.space.allow_everything();
                }
                tables.push((descriptor.address, descriptor.length.into()));
                for inner in self.descriptors(descriptor.address, count) {
                    self.allow(inner);
                }
            }
        }
        if tables.iter().any(|(address, length)| self.space.allows(*address, *length)) {
            self.space.allow_everything();
        }
    }

    fn allow(&mut self, descriptor: Descriptor) {
        if descriptor.flags & WRITE != 0 {
            self.space.allow(descriptor.address, descriptor.length.into());
        }
    }

    /// The descriptors of a table, as far as it can lie in memory.
    fn descriptors(&self, table: u64, count: u64) -> Vec<Descriptor> {
        let count = usize::try_from(count.min(BUFFERS.end / DESCRIPTOR_BYTES)).expect("small");
        let bytes = self.space.read(table, count * 16);
        let written = bytes.chunks_exact(16).filter(|bytes| *bytes != [0; 16]);
        written.map(Descriptor::decode).collect()
    }

    /// Offers an honest chain and gives what came back: the used length, and the writable parts' bytes.
    pub(super) fn request(&mut self, queue: usize, readable: &[&[u8]], writable: &[usize]) -> Option<Answer> {
        let before = self.space.read_u16(self.queues[queue].used + 2);
        let written = self.offer_honestly(queue, readable, writable);
        self.notify(u32::try_from(queue).expect("few queues"));
        self.answer(queue, before, &written)
    }

    /// Offers a chain of these parts; gives its writable ones' addresses and lengths.
    pub(super) fn offer_honestly(
        &mut self,
        queue: usize,
        readable: &[&[u8]],
        writable: &[usize],
    ) -> Vec<(u64, usize)> {
        let mut parts = Vec::new();
        for bytes in readable {
            let address = self.reserve(bytes.len());
            self.space.write(address, bytes);
            parts.push((address, bytes.len(), 0));
        }
        let writable: Vec<_> = writable.iter().map(|length| (self.reserve(*length), *length)).collect();
        parts.extend(writable.iter().map(|(address, length)| (*address, *length, WRITE)));
        let head = self.queues[queue].next_slot;
        let last = parts.len() - 1;
        for (index, (address, length, flags)) in parts.into_iter().enumerate() {
            let slot = self.next_slot(queue);
            let more = if index == last { 0 } else { NEXT };
            let next = (slot + 1) % self.queues[queue].size;
            let length = u32::try_from(length).expect("small");
            self.describe(queue, slot, &Descriptor { address, length, flags: flags | more, next }.encode());
        }
        self.offer(queue, head);
        writable
    }

    pub(super) fn next_slot(&mut self, queue: usize) -> u16 {
        let place = &mut self.queues[queue];
        let slot = place.next_slot;
        place.next_slot = (slot + 1) % place.size;
        slot
    }

    /// What the used ring says behind index `before`, if anything.
    pub(super) fn answer(&self, queue: usize, before: u16, written: &[(u64, usize)]) -> Option<Answer> {
        let place = self.queues[queue];
        if self.space.read_u16(place.used + 2) == before {
            return None;
        }
        let entry = self.space.read(place.used + 4 + 8 * u64::from(before % place.size), 8);
        let length = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let bytes = written.iter().flat_map(|(address, length)| self.space.read(*address, *length)).collect();
        Some(Answer { length, bytes })
    }

    /// # Panics
    /// The device wrote where it may not, or stopped without saying so.
    pub(super) fn check(&self) {
        self.space.check();
        let needs_reset = self.status() & status::DEVICE_NEEDS_RESET != 0;
        let broke = self.broken.load(Ordering::Relaxed) > 0;
        assert!(broke || !needs_reset, "a device that stopped says why");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        SPACE.set(Some(std::mem::take(&mut self.space)));
    }
}

/// What came back of a request.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) length: u32,
    pub(super) bytes: Vec<u8>,
}

/// `struct virtq_desc` (virtio 1.2, section 2.7.5).
#[derive(Clone, Copy, Debug)]
pub(super) struct Descriptor {
    pub(super) address: u64,
    pub(super) length: u32,
    pub(super) flags: u16,
    pub(super) next: u16,
}

impl Descriptor {
    pub(super) fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        let field = |at: usize, length: usize| {
            let mut value = [0; 8];
            value[..length].copy_from_slice(&bytes[at..at + length]);
            u64::from_le_bytes(value)
        };
        let narrow = "as many bytes as the type has";
        Self {
            address: field(0, 8),
            length: u32::try_from(field(8, 4)).expect(narrow),
            flags: u16::try_from(field(12, 2)).expect(narrow),
            next: u16::try_from(field(14, 2)).expect(narrow),
        }
    }
}
