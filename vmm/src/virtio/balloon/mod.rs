//! The memory balloon (virtio 1.2, section 5.5): guest memory that goes back to the host.
//!
//! ```text
//!   inflate      page numbers the guest does without, on the host's request: the pages go back at once
//!   deflate      page numbers it uses again: they come into being again by being touched
//!   statistics   one buffer, kept here; given back when the host wants to know more, it returns filled
//!   reporting    free memory, told unasked: it goes back too, and the guest may use it when the buffer returns
//! ```
//!
//! A guest decides for itself what it gives; what it names must be RAM, and it can only lose its own.

mod handle;
mod statistics;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use virtio_queue::Queue;
use vm_memory::GuestAddress;

pub(crate) use self::handle::BalloonHandle;
use super::chain::{self, Chain};
use super::{Broken, DeviceKind, DeviceState, StateError, UsedQueues, VirtioDevice, copy_config, state};
use crate::config::BalloonConfig;
use crate::layout::PAGE_BYTES;
use crate::memory::GuestMemoryMmap;
use crate::reclaim::Reclaimer;

/// Feature bits (section 5.5.3).
const STATISTICS: u32 = 1;
const DEFLATE_ON_OOM: u32 = 2;
const REPORTING: u32 = 5;

const QUEUE_SIZE: u16 = 128;
/// Balloons count in pages of this size, whatever the guest's are.
const PAGES_PER_MIB: u32 = (1 << 20) / (1 << PAGE_SHIFT);
const PAGE_SHIFT: u32 = 12;
/// Drivers name 256 pages at a time. This many are 256 MiB, and the work of some milliseconds.
const MAX_PAGES: usize = 1 << 16;
const PAGE_NUMBER_BYTES: usize = 4;

const INFLATE: usize = 0;
const DEFLATE: usize = 1;
/// Statistics and reporting, where they are negotiated, in this order and without a gap.
const FIRST_OPTIONAL: usize = 2;

const CONFIG_BYTES: usize = 16;
/// The one field that drivers write.
const ACTUAL: std::ops::Range<usize> = 4..8;

/// The device.
#[derive(Debug)]
pub(crate) struct Balloon {
    handle: Arc<BalloonHandle>,
    offered: u64,
    /// Which queue is which depends on what was negotiated.
    statistics_queue: Option<usize>,
    reporting_queue: Option<usize>,
    /// The driver's buffer, kept until the host wants to know more.
    statistics_chain: Option<Chain>,
    reclaimer: Reclaimer,
    /// Of the chain at hand; kept for its room.
    pages: Vec<u32>,
}

impl Balloon {
    /// For a machine of `memory_mib`.
    ///
    /// # Errors
    /// No more descriptors.
    pub(crate) fn new(config: BalloonConfig, memory_mib: u32) -> io::Result<Self> {
        let bit = |wanted: bool, feature: u32| u64::from(wanted) << feature;
        let offered = 1 << STATISTICS
            | bit(config.deflate_on_oom, DEFLATE_ON_OOM)
            | bit(config.report_free_pages, REPORTING);
        Ok(Self {
            handle: Arc::new(BalloonHandle::new(config.target_mib, memory_mib)?),
            offered,
            statistics_queue: None,
            reporting_queue: None,
            statistics_chain: None,
            reclaimer: Reclaimer::default(),
            pages: Vec::new(),
        })
    }

    /// For the control thread.
    pub(crate) fn handle(&self) -> Arc<BalloonHandle> {
        self.handle.clone()
    }

    fn config(&self) -> [u8; CONFIG_BYTES] {
        let mut config = [0; CONFIG_BYTES];
        config[..4].copy_from_slice(&self.handle.target_pages().to_le_bytes());
        config[ACTUAL].copy_from_slice(&self.handle.actual_pages.load(Ordering::SeqCst).to_le_bytes());
        config
    }

    /// Takes back the pages that a chain names.
    fn inflate(&mut self, chain: &Chain, memory: &GuestMemoryMmap) -> Result<(), Broken> {
        let bytes = chain.readable.len();
        if bytes > MAX_PAGES * PAGE_NUMBER_BYTES || !bytes.is_multiple_of(PAGE_NUMBER_BYTES) {
            return Err(Broken(format!("{bytes} bytes of page numbers: whole ones, at most {MAX_PAGES}")));
        }
        let mut numbers = vec![0; bytes];
        chain.readable.read(memory, &mut numbers)?;
        let numbers = numbers.chunks_exact(PAGE_NUMBER_BYTES);
        self.pages.clear();
        self.pages.extend(numbers.map(|number| u32::from_le_bytes(number.try_into().expect("four bytes"))));
        self.pages.sort_unstable();
        self.pages.dedup();
        // Pages that lie beside each other go in one call.
        for run in self.pages.chunk_by(|page, next| page + 1 == *next) {
            let start = GuestAddress(u64::from(run[0]) << PAGE_SHIFT);
            let bytes = (run.len() as u64) << PAGE_SHIFT;
            take_back(&mut self.reclaimer, memory, start, bytes, &self.handle.inflated_bytes)?;
        }
        Ok(())
    }

    /// Takes back the memory that a chain consists of.
    fn take_reported(&mut self, chain: &Chain, memory: &GuestMemoryMmap) -> Result<(), Broken> {
        for (start, length) in chain.writable.ranges() {
            let end = (start.0 + length as u64) & !(PAGE_BYTES - 1);
            let start = start.0.next_multiple_of(PAGE_BYTES);
            if start < end {
                let (start, bytes) = (GuestAddress(start), end - start);
                take_back(&mut self.reclaimer, memory, start, bytes, &self.handle.reported_bytes)?;
            }
        }
        Ok(())
    }

    /// Reads the statistics that came and keeps their buffer, the newest if there are several.
    fn receive_statistics(&mut self, queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<bool, Broken> {
        let mut any = false;
        while let Some(chain) = next(queue, memory)? {
            let mut bytes = [0; statistics::MAX_BYTES];
            let bytes = &mut bytes[..chain.readable.len().min(statistics::MAX_BYTES)];
            chain.readable.read(memory, bytes)?;
            self.handle.set_statistics(Some(statistics::parse(bytes)));
            if let Some(former) = self.statistics_chain.replace(chain) {
                chain::complete(queue, memory, &former, 0)?;
                any = true;
            }
        }
        Ok(any)
    }
}

/// The next chain; when there is none, the driver is asked to tell of one.
fn next(queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<Option<Chain>, Broken> {
    match chain::pop(queue, memory)? {
        None if chain::listen(queue, memory)? => chain::pop(queue, memory),
        chain => Ok(chain),
    }
}

fn take_back(
    reclaimer: &mut Reclaimer,
    memory: &GuestMemoryMmap,
    start: GuestAddress,
    bytes: u64,
    counter: &AtomicU64,
) -> Result<(), Broken> {
    reclaimer.take_back(memory, start, bytes).map_err(|error| Broken(error.to_string()))?;
    counter.fetch_add(bytes, Ordering::SeqCst);
    Ok(())
}

impl VirtioDevice for Balloon {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Balloon
    }

    fn queue_sizes(&self) -> &'static [u16] {
        &[QUEUE_SIZE; 4]
    }

    fn features(&self) -> u64 {
        self.offered
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        copy_config(&self.config(), offset, data);
    }

    /// `actual`: how many pages the guest says are in the balloon.
    fn write_config(&mut self, offset: u64, data: &[u8]) {
        let mut config = self.config();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (position, byte) in (start..CONFIG_BYTES).zip(data) {
            config[position] = *byte;
        }
        let actual = u32::from_le_bytes(config[ACTUAL].try_into().expect("four bytes"));
        self.handle.actual_pages.store(actual, Ordering::SeqCst);
    }

    fn activate(&mut self, features: u64) {
        let has = |feature: u32| features >> feature & 1 == 1;
        let mut optional = FIRST_OPTIONAL..;
        self.statistics_queue = has(STATISTICS).then(|| optional.next()).flatten();
        self.reporting_queue = has(REPORTING).then(|| optional.next()).flatten();
    }

    fn reset(&mut self) {
        (self.statistics_queue, self.reporting_queue, self.statistics_chain) = (None, None, None);
        self.handle.actual_pages.store(0, Ordering::SeqCst);
        self.handle.set_statistics(None);
    }

    fn queue_event(
        &mut self,
        index: usize,
        memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        let mut used = UsedQueues::NONE;
        let Some(queue) = queues.get_mut(index) else { return Ok(used) };
        let done = |()| 0;
        let any = match index {
            INFLATE => chain::answer_all(queue, memory, |chain| self.inflate(chain, memory).map(done))?,
            DEFLATE => chain::answer_all(queue, memory, |_| Ok(0))?,
            _ if Some(index) == self.reporting_queue => {
                chain::answer_all(queue, memory, |chain| self.take_reported(chain, memory).map(done))?
            }
            _ if Some(index) == self.statistics_queue => self.receive_statistics(queue, memory)?,
            _ => false,
        };
        if any {
            used.add(index);
        }
        Ok(used)
    }

    fn host_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.handle.as_fd())
    }

    /// The control thread wants another size, or newer statistics.
    fn host_event(
        &mut self,
        memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        self.handle.awake();
        let mut used = UsedQueues::NONE;
        if self.handle.target_changed.swap(false, Ordering::SeqCst) {
            used.add_configuration();
        }
        if self.handle.statistics_wanted.swap(false, Ordering::SeqCst)
            && let Some(index) = self.statistics_queue
            && let Some(queue) = queues.get_mut(index)
        {
            // After a snapshot the buffer is in its queue.
            self.receive_statistics(queue, memory)?;
            if let Some(chain) = self.statistics_chain.take() {
                chain::complete(queue, memory, &chain, 0)?;
                used.add(index);
            }
        }
        Ok(used)
    }

    /// The buffer for statistics goes back to its queue, unseen.
    fn quiesce(
        &mut self,
        _memory: &GuestMemoryMmap,
        queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        let queue = self.statistics_queue.and_then(|index| queues.get_mut(index));
        if let (Some(queue), Some(_)) = (queue, self.statistics_chain.take()) {
            chain::unpop(queue);
        }
        Ok(UsedQueues::NONE)
    }

    fn save(&self) -> Result<DeviceState, StateError> {
        let actual_pages = self.handle.actual_pages.load(Ordering::SeqCst);
        Ok(DeviceState::Balloon { features: self.offered, actual_pages })
    }

    fn restore(&mut self, state: &DeviceState) -> Result<(), StateError> {
        let DeviceState::Balloon { actual_pages, .. } = *state else {
            return state::expect_same(state, self.save()?);
        };
        state::expect_same(state, DeviceState::Balloon { features: self.offered, actual_pages })?;
        self.handle.actual_pages.store(actual_pages, Ordering::SeqCst);
        Ok(())
    }

    /// The size that is wanted is the new machine's.
    fn resume(
        &mut self,
        _memory: &GuestMemoryMmap,
        _queues: &mut [&mut Queue],
    ) -> Result<UsedQueues, Broken> {
        let mut used = UsedQueues::NONE;
        used.add_configuration();
        Ok(used)
    }
}
