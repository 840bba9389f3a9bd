//! The block device (virtio 1.2, section 5.2): one queue, requests done one after the other on the device's thread.
//!
//! Flush, discard and write-zeroes included; what the guest frees is freed on the host. A failed request is the
//! guest's to handle (an I/O error); only a chain that cannot be answered breaks the device.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use virtio_bindings::virtio_blk as bindings;
use virtio_queue::Queue;

use self::backing::DiskError;
use self::request::{ID_BYTES, MAX_RANGES, Range, Request};
use super::chain::{self, Chain};
use super::{Broken, DeviceKind, DeviceState, StateError, UsedQueues, VirtioDevice, copy_config, state};
use crate::config::SECTOR_BYTES;
use crate::memory::GuestMemoryMmap;

mod backing;
mod failures;
mod request;
#[cfg(test)]
mod tests;

pub(crate) use self::backing::{BindError, Disk};

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
    id: [u8; ID_BYTES],
    config: [u8; CONFIG_BYTES],
}

impl Block {
    /// The `index`-th disk of the machine.
    pub(crate) fn new(disk: Arc<Disk>, index: usize) -> Self {
        let mut id = [0; ID_BYTES];
        let name = format!("berth-{index}");
        id[..name.len()].copy_from_slice(name.as_bytes());
        let config = config_space(&disk);
        Self { disk, id, config }
    }

    /// What a snapshot says of the disk.
    fn state(&self) -> DeviceState {
        DeviceState::Block { capacity_bytes: self.disk.capacity_bytes(), read_only: self.disk.is_read_only() }
    }

    /// Does one request and gives the number of data bytes written to the guest.
    fn perform(&self, request: &Request, memory: &GuestMemoryMmap) -> Result<usize, DiskError> {
        let count = |counter: &AtomicU64, by: u64| counter.fetch_add(by, Ordering::Relaxed);
        let statistics = self.disk.statistics();
        match request {
            Request::Read { start, into } => {
                self.disk.read(*start, into, memory)?;
                count(&statistics.reads, 1);
                count(&statistics.read_bytes, into.len() as u64);
                return Ok(into.len());
            }
            Request::Write { start, from } => {
                self.disk.write(*start, from, memory)?;
                count(&statistics.writes, 1);
                count(&statistics.written_bytes, from.len() as u64);
            }
            Request::Flush => {
                self.disk.flush()?;
                count(&statistics.flushes, 1);
            }
            Request::GetId { into } => {
                into.write(memory, &self.id).map_err(|_| DiskError::Refused)?;
                return Ok(ID_BYTES);
            }
            Request::Discard(ranges) => {
                check_lengths(ranges)?;
                for range in ranges {
                    self.disk.punch_hole(range.start, range.length)?;
                    count(&statistics.discarded_bytes, range.length);
                }
            }
            Request::WriteZeroes(ranges) => {
                check_lengths(ranges)?;
                ranges.iter().try_for_each(|range| self.write_zeroes(range))?;
            }
            Request::Unsupported => return Err(DiskError::Unsupported),
            Request::Malformed => return Err(DiskError::Refused),
        }
        Ok(0)
    }

    fn write_zeroes(&self, range: &Range) -> Result<(), DiskError> {
        if range.may_unmap {
            self.disk.punch_hole(range.start, range.length)
        } else {
            self.disk.zero(range.start, range.length)
        }
    }

    /// Answers one chain; gives the number of bytes written to it.
    fn answer(&self, chain: &Chain, memory: &GuestMemoryMmap) -> Result<usize, Broken> {
        let request = request::parse(chain, memory)?;
        let result = self.perform(&request, memory);
        if let Err(error) = &result {
            self.disk.statistics().errors.fetch_add(1, Ordering::Relaxed);
            if let DiskError::Io(error) = error {
                self.disk.failures().add(&request.describe(), error);
            }
        }
        let status = match result {
            Ok(_) => bindings::VIRTIO_BLK_S_OK,
            Err(DiskError::Unsupported) => bindings::VIRTIO_BLK_S_UNSUPP,
            Err(DiskError::Refused | DiskError::Io(_)) => bindings::VIRTIO_BLK_S_IOERR,
        };
        let status = u8::try_from(status).expect("the specification's statuses are 0 to 2");
        chain.writable.range(chain.writable.len() - 1, 1).write(memory, &[status])?;
        // The used length counts the bytes written from the front on; with the status at the very end, a failed
        // or writing request has at least that one.
        Ok(result.unwrap_or(0) + 1)
    }
}

/// Lengths within what the configuration space allows, so that no request holds the device's thread for long.
fn check_lengths(ranges: &[Range]) -> Result<(), DiskError> {
    let limit = u64::from(MAX_RANGE_SECTORS) * SECTOR_BYTES;
    let fits = ranges.iter().all(|range| range.length > 0 && range.length <= limit);
    if fits { Ok(()) } else { Err(DiskError::Refused) }
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

    fn reset(&mut self) {}

    fn queue_event(
        &mut self,
        index: usize,
        memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        let mut used = UsedQueues::NONE;
        let Some(queue) = queues.get_mut(index) else { return Ok(used) };
        if chain::answer_all(queue, memory, |chain| self.answer(chain, memory))? {
            used.add(index);
        }
        Ok(used)
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        Ok(self.state())
    }

    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        state::expect_same(state, self.state())
    }
}
