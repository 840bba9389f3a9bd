//! The driver's side of a queue, for tests: offers buffers, honest or not, and sees what the device made of them.

use virtio_queue::desc::{RawDescriptor, split::Descriptor};
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};

use crate::memory::GuestMemoryMmap;

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// The size of a queue, unless a driver wants another.
const SIZE: u16 = 64;
/// Each queue of a test has this much memory: rings in the first page, buffers behind it.
const QUEUE_BYTES: u64 = 1 << 20;

/// Guest memory for `queues` queues.
pub(crate) fn memory(queues: usize) -> GuestMemoryMmap {
    let bytes = usize::try_from(QUEUE_BYTES).unwrap() * queues;
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), bytes)]).unwrap()
}

/// One queue as its driver sees it.
pub(crate) struct Driver {
    memory: GuestMemoryMmap,
    base: u64,
    size: u16,
    next_descriptor: u16,
    offered: u16,
    seen: u16,
    next_buffer: u64,
}

/// A chain that was offered, and where its writable parts are.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) head: u16,
    writable: Vec<(u64, usize)>,
}

impl Driver {
    /// The `index`-th queue in `memory`, and the device's view of it.
    pub(crate) fn new(memory: &GuestMemoryMmap, index: u64) -> (Self, Queue) {
        Self::with_size(memory, index, SIZE)
    }

    /// The same with this many descriptors, 256 at most.
    pub(crate) fn with_size(memory: &GuestMemoryMmap, index: u64, size: u16) -> (Self, Queue) {
        let base = index * QUEUE_BYTES;
        let driver = Self {
            memory: memory.clone(),
            base,
            size,
            next_descriptor: 0,
            offered: 0,
            seen: 0,
            next_buffer: base + 0x4000,
        };
        let mut queue = Queue::new(size).unwrap();
        queue.set_size(size);
        queue.set_event_idx(true);
        let low = |address: u64| Some(u32::try_from(address).unwrap());
        queue.set_desc_table_address(low(driver.table()), Some(0));
        queue.set_avail_ring_address(low(driver.available()), Some(0));
        queue.set_used_ring_address(low(driver.used()), Some(0));
        queue.set_ready(true);
        (driver, queue)
    }

    fn table(&self) -> u64 {
        self.base + 0x1000
    }

    fn available(&self) -> u64 {
        self.base + 0x2000
    }

    fn used(&self) -> u64 {
        self.base + 0x3000
    }

    /// Puts bytes somewhere into the queue's memory.
    pub(crate) fn place(&mut self, bytes: &[u8]) -> u64 {
        let address = self.reserve(bytes.len());
        self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
        address
    }

    /// Room for `length` bytes that the test will not overwrite for a while: buffers are reused in a circle.
    pub(crate) fn reserve(&mut self, length: usize) -> u64 {
        let length = length as u64;
        if self.next_buffer + length > self.base + QUEUE_BYTES {
            self.next_buffer = self.base + 0x4000;
        }
        let address = self.next_buffer;
        self.next_buffer += length;
        address
    }

    /// Offers a chain as an honest driver does: readable parts, then writable ones of these sizes.
    pub(crate) fn offer(&mut self, readable: &[&[u8]], writable: &[usize]) -> Offer {
        let mut parts: Vec<(u64, usize, u16)> =
            readable.iter().map(|bytes| (self.place(bytes), bytes.len(), 0)).collect();
        let writable: Vec<(u64, usize)> =
            writable.iter().map(|length| (self.reserve(*length), *length)).collect();
        parts.extend(writable.iter().map(|(address, length)| (*address, *length, WRITE)));
        let first = self.next_descriptor;
        let count = u16::try_from(parts.len()).unwrap();
        for (index, (address, length, flags)) in (0..count).zip(parts) {
            let next = if index + 1 == count { 0 } else { NEXT };
            let slot = (first + index) % self.size;
            let length = u32::try_from(length).unwrap();
            self.describe(slot, Descriptor::new(address, length, flags | next, (slot + 1) % self.size));
        }
        self.next_descriptor = (first + count) % self.size;
        self.make_available(first);
        Offer { head: first, writable }
    }

    /// Writes one descriptor, whatever it says.
    pub(crate) fn describe(&self, slot: u16, descriptor: Descriptor) {
        let address = GuestAddress(self.table() + 16 * u64::from(slot));
        self.memory.write_obj(RawDescriptor::from(descriptor), address).unwrap();
    }

    /// Makes the chain at `head` available, wherever that is.
    pub(crate) fn make_available(&mut self, head: u16) {
        let slot = GuestAddress(self.available() + 4 + 2 * u64::from(self.offered % self.size));
        self.memory.write_obj(head, slot).unwrap();
        self.claim_available(1);
    }

    /// Moves the available index without filling the ring.
    pub(crate) fn claim_available(&mut self, count: u16) {
        self.offered = self.offered.wrapping_add(count);
        self.memory.write_obj(self.offered, GuestAddress(self.available() + 2)).unwrap();
    }

    /// Heads and written lengths of the chains that came back since the last call.
    pub(crate) fn returned(&mut self) -> Vec<(u16, usize)> {
        let index: u16 = self.memory.read_obj(GuestAddress(self.used() + 2)).unwrap();
        let mut returned = Vec::new();
        while self.seen != index {
            let entry = GuestAddress(self.used() + 4 + 8 * u64::from(self.seen % self.size));
            let [head, length]: [u32; 2] = self.memory.read_obj(entry).unwrap();
            returned.push((u16::try_from(head).unwrap(), length as usize));
            self.seen = self.seen.wrapping_add(1);
        }
        returned
    }

    /// All writable bytes of a chain.
    pub(crate) fn written(&self, offer: &Offer) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (address, length) in &offer.writable {
            let mut part = vec![0; *length];
            self.memory.read_slice(&mut part, GuestAddress(*address)).unwrap();
            bytes.extend(part);
        }
        bytes
    }
}
