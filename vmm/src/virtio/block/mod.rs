//! The block device (virtio 1.2, section 5.2): one queue, many requests under way at the same time.
//!
//! What a request says is [`request`], who does it is [`execution`], what lies behind the disk is [`backing`].
//! Flush, discard and write-zeroes included; what the guest frees is freed on the host. A failed request is the
//! guest's to handle (an I/O error); only a chain that cannot be answered breaks the device.

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use virtio_bindings::virtio_blk as bindings;
use virtio_queue::{Queue, QueueT};

use self::execution::Execution;
use self::request::{ID_BYTES, MAX_RANGES};
use super::{Broken, DeviceKind, DeviceState, StateError, UsedQueues, VirtioDevice, copy_config, state};
use crate::config::SECTOR_BYTES;
use crate::memory::GuestMemoryMmap;

mod backing;
#[cfg(test)]
mod binding_tests;
#[cfg(test)]
mod concurrency_tests;
mod execution;
mod failures;
mod request;
mod ring;
#[cfg(test)]
mod tests;

pub(crate) use self::backing::{BindError, Disk};

const QUEUE: usize = 0;
const QUEUE_SIZE: u16 = 128;
/// A request of this many data segments, a header and a status byte fills the queue.
const MAX_DATA_SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;
/// The host's files are cached and freed in pages: eight sectors (exponent 3).
const PHYSICAL_BLOCK_EXPONENT: u8 = 3;
const SECTORS_PER_PHYSICAL_BLOCK: u32 = 1 << PHYSICAL_BLOCK_EXPONENT;
/// One range may cover 1 GiB: long enough for mkfs, short enough for fallocate(2) to come back soon.
const MAX_RANGE_SECTORS: u32 = 1 << 21;
const CONFIG_BYTES: usize = 60;

/// A disk's device.
#[derive(Debug)]
pub(crate) struct Block {
    disk: Arc<Disk>,
    execution: Execution,
    config: [u8; CONFIG_BYTES],
}

impl Block {
    /// The `index`-th disk of the machine.
    pub(crate) fn new(disk: Arc<Disk>, index: usize) -> Self {
        let mut id = [0; ID_BYTES];
        let name = format!("berth-{index}");
        id[..name.len()].copy_from_slice(name.as_bytes());
        let config = config_space(&disk);
        Self { execution: Execution::new(disk.clone(), id), disk, config }
    }

    /// What a snapshot says of the disk.
    fn state(&self) -> DeviceState {
        DeviceState::Block { capacity_bytes: self.disk.capacity_bytes(), read_only: self.disk.is_read_only() }
    }
}

/// `struct virtio_blk_config` (section 5.2.4).
fn config_space(disk: &Disk) -> [u8; CONFIG_BYTES] {
    let mut config = [0; CONFIG_BYTES];
    let mut put = |at: usize, bytes: &[u8]| config[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &(disk.capacity_bytes() / SECTOR_BYTES).to_le_bytes());
    put(12, &MAX_DATA_SEGMENTS.to_le_bytes());
    put(20, &512u32.to_le_bytes());
    put(24, &[PHYSICAL_BLOCK_EXPONENT]);
    put(34, &1u16.to_le_bytes());
    put(36, &MAX_RANGE_SECTORS.to_le_bytes());
    put(40, &32u32.to_le_bytes());
    put(44, &SECTORS_PER_PHYSICAL_BLOCK.to_le_bytes());
    put(48, &MAX_RANGE_SECTORS.to_le_bytes());
    put(52, &32u32.to_le_bytes());
    put(56, &[1]);
    config
}

const _: () = assert!(MAX_RANGES == 32, "announced as such in the configuration space");

impl VirtioDevice for Block {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Block
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE]
    }

    fn features(&self) -> u64 {
        let always = 1 << bindings::VIRTIO_BLK_F_SEG_MAX
            | 1 << bindings::VIRTIO_BLK_F_BLK_SIZE
            | 1 << bindings::VIRTIO_BLK_F_TOPOLOGY
            | 1 << bindings::VIRTIO_BLK_F_FLUSH;
        let by_access = if self.disk.is_read_only() {
            1 << bindings::VIRTIO_BLK_F_RO
        } else {
            1 << bindings::VIRTIO_BLK_F_DISCARD | 1 << bindings::VIRTIO_BLK_F_WRITE_ZEROES
        };
        always | by_access
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        copy_config(&self.config, offset, data);
    }

    fn activate(&mut self, _features: u64) {}

    fn prepare(&mut self) {
        self.execution.prepare();
    }

    fn reset(&mut self) {
        self.execution.forget_all();
    }

    fn queue_event(
        &mut self,
        index: usize,
        memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        let Some(queue) = queues.get_mut(index) else { return Ok(UsedQueues::NONE) };
        if !queue.ready() {
            return Ok(UsedQueues::NONE);
        }
        Ok(used_if(self.execution.work(queue, memory)?))
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        self.execution.event()
    }

    fn host_event(
        &mut self,
        memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        self.execution.acknowledge();
        self.queue_event(QUEUE, memory, queues)
    }

    fn quiesce(&mut self, memory: &GuestMemoryMmap, queues: &mut [&mut Queue]) -> Result<UsedQueues, Broken> {
        match queues.get_mut(QUEUE) {
            Some(queue) => Ok(used_if(self.execution.complete_all(queue, memory)?)),
            None => Ok(UsedQueues::NONE),
        }
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        Ok(self.state())
    }

    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        state::expect_same(state, self.state())
    }
}

fn used_if(any: bool) -> UsedQueues {
    let mut used = UsedQueues::NONE;
    if any {
        used.add(QUEUE);
    }
    used
}
