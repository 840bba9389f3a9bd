//! Random reads of 4 KiB from a file, with a fixed number of requests under way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use virtio_queue::Queue;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress};

use super::variable;
use crate::config::{DiskAccess, DiskConfig, Extent};
use crate::memory::GuestMemoryMmap;
use crate::virtio::test_driver::{self, Driver, NEXT, WRITE};
use crate::virtio::{Block, Disk, VirtioDevice};

const BLOCK_BYTES: u32 = 4096;
/// Header, data, status.
const DESCRIPTORS: u16 = 3;
const QUEUE_SIZE: u16 = 128;
const DEADLINE: Timespec = Timespec { tv_sec: 20, tv_nsec: 0 };
/// Blocks are visited in steps of a number without a factor in common with theirs: each once, in no order that a
/// readahead would guess.
const STRIDE: u64 = 104_729;

/// Where one request's parts lie, always the same ones.
struct Slot {
    header: u64,
    status: u64,
}

struct Reader {
    memory: GuestMemoryMmap,
    driver: Driver,
    queue: Queue,
    device: Block,
    slots: Vec<Slot>,
    blocks: u64,
    next_block: u64,
}

pub(super) fn reads() {
    let (depth, reads) = (variable("BERTH_BENCH_DEPTH"), variable("BERTH_BENCH_READS"));
    let mut reader = Reader::open(depth);
    let begun = Instant::now();
    reader.read(reads);
    let took: Duration = begun.elapsed();
    println!("measured: {:.0} reads a second", f64::from(reads) / took.as_secs_f64());
}

impl Reader {
    fn open(depth: u32) -> Self {
        let path = std::env::var_os("BERTH_BENCH_FILE").expect("BERTH_BENCH_FILE is set");
        let bytes = std::fs::metadata(&path).unwrap().len();
        let extent = Extent { path: path.into(), offset_bytes: 0, length_bytes: bytes };
        let config =
            DiskConfig { capacity_bytes: bytes, access: DiskAccess::ReadOnly, extents: vec![extent] };
        let mut device = Block::new(Arc::new(Disk::open(&config).unwrap()), 0);
        device.activate(0);
        let memory = test_driver::memory(1);
        let (mut driver, queue) = Driver::with_size(&memory, 0, QUEUE_SIZE);
        let slots = (0..u16::try_from(depth).unwrap()).map(|slot| lay_out(&mut driver, slot)).collect();
        let blocks = bytes / u64::from(BLOCK_BYTES);
        // Not the same blocks in the same order in every run: where it begins is random.
        let mut random = [0; 4];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).unwrap();
        let next_block = u64::from(u32::from_ne_bytes(random)) % blocks;
        Self { memory, driver, queue, device, slots, blocks, next_block }
    }

    fn read(&mut self, reads: u32) {
        let depth = self.slots.len();
        let mut offered = u32::try_from(depth).unwrap();
        (0..depth).for_each(|slot| self.offer(slot));
        self.notify();
        let mut done = 0;
        while done < reads {
            let returned = self.driver.returned();
            if returned.is_empty() {
                self.wait();
                continue;
            }
            for (head, _length) in returned {
                let slot = usize::from(head / DESCRIPTORS);
                let status: u8 = self.memory.read_obj(GuestAddress(self.slots[slot].status)).unwrap();
                assert_eq!(status, 0, "a read failed");
                done += 1;
                if offered < reads {
                    self.offer(slot);
                    offered += 1;
                }
            }
            self.notify();
        }
    }

    fn offer(&mut self, slot: usize) {
        const SECTORS_PER_BLOCK: u64 = BLOCK_BYTES as u64 / 512;
        self.next_block = (self.next_block + STRIDE) % self.blocks;
        let sector = self.next_block * SECTORS_PER_BLOCK;
        self.memory.write_obj(sector, GuestAddress(self.slots[slot].header + 8)).unwrap();
        self.driver.make_available(u16::try_from(slot).unwrap() * DESCRIPTORS);
    }

    fn notify(&mut self) {
        self.device.queue_event(0, &self.memory, &mut [&mut self.queue]).unwrap();
    }

    /// As the event loop does: sleeps until the device's own descriptor is ready, then lets it work.
    fn wait(&mut self) {
        let fd = self.device.host_fd().expect("nothing came back, and nothing is under way");
        assert_eq!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&DEADLINE)).unwrap(), 1);
        self.device.host_event(&self.memory, &mut [&mut self.queue]).unwrap();
    }
}

/// One request's descriptors, which stay as they are.
fn lay_out(driver: &mut Driver, slot: u16) -> Slot {
    let header = driver.place(&[0; 16]);
    let data = driver.reserve(BLOCK_BYTES as usize);
    let status = driver.reserve(16);
    let first = slot * DESCRIPTORS;
    driver.describe(first, Descriptor::new(header, 16, NEXT, first + 1));
    driver.describe(first + 1, Descriptor::new(data, BLOCK_BYTES, NEXT | WRITE, first + 2));
    driver.describe(first + 2, Descriptor::new(status, 1, WRITE, 0));
    Slot { header, status }
}
