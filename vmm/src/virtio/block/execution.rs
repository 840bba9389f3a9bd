//! Who does a request: the ring, if the host lets us have one and the request is a plain transfer; this thread, at once,
//! otherwise. Either way it is answered here, once.
//!
//! Requests that are under way at the same time have no order among each other (virtio 1.2, section 5.2.6): a flush
//! covers writes that were answered before it was made, and those are done.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use virtio_bindings::virtio_blk as bindings;
use virtio_queue::Queue;

use super::backing::{Disk, DiskError};
use super::request::{ID_BYTES, Range, Request};
use super::ring::{Operation, Ring};
use super::{MAX_RANGE_SECTORS, request};
use crate::config::SECTOR_BYTES;
use crate::memory::GuestMemoryMmap;
use crate::virtio::Broken;
use crate::virtio::chain::{self, Chain};

/// The requests of one disk.
#[derive(Debug)]
pub(super) struct Execution {
    disk: Arc<Disk>,
    id: [u8; ID_BYTES],
    ring: RingState,
    /// Becomes readable when the ring has finished something; `None` if the host has no more descriptors.
    event: Option<Arc<OwnedFd>>,
}

#[derive(Debug)]
enum RingState {
    /// Nobody has asked yet.
    Unknown,
    Open(Box<Ring<Flight>>),
    /// The host does not have it, or forbids it.
    Refused,
}

/// A request that the ring works on.
#[derive(Debug)]
struct Flight {
    chain: Chain,
    request: Request,
}

impl Execution {
    pub(super) fn new(disk: Arc<Disk>, id: [u8; ID_BYTES]) -> Self {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok().map(Arc::new);
        Self { disk, id, ring: RingState::Unknown, event }
    }

    /// Does without the ring, as on a host that forbids it.
    #[cfg(test)]
    pub(super) fn refuse_ring(&mut self) {
        self.ring = RingState::Refused;
    }

    pub(super) fn event(&self) -> Option<BorrowedFd<'_>> {
        self.event.as_ref().map(|event| event.as_fd())
    }

    /// Opens the ring, if that was not tried yet. Takes its time, and calls that a jail forbids later.
    pub(super) fn prepare(&mut self) {
        if let (RingState::Unknown, Some(event)) = (&self.ring, &self.event) {
            self.ring =
                Ring::open(event.clone()).map_or(RingState::Refused, |ring| RingState::Open(Box::new(ring)));
        }
    }

    /// Takes and answers requests until there are none to take and none finished. Says whether any was answered.
    ///
    /// # Errors
    /// A chain that cannot be answered, rings that break the rules, or a kernel that takes no more requests.
    pub(super) fn work(&mut self, queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<bool, Broken> {
        self.prepare();
        let mut any = false;
        loop {
            self.announce(false);
            any |= self.work_unannounced(queue, memory)?;
            self.announce(true);
            // What finished before announcements began again was announced to nobody.
            if !self.has_finished() {
                return Ok(any);
            }
        }
    }

    fn work_unannounced(&mut self, queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<bool, Broken> {
        let mut any = false;
        loop {
            any |= self.finish(queue, memory)?;
            chain::silence(queue, memory)?;
            let taken = self.take(queue, memory);
            self.submit()?;
            any |= taken?;
            any |= self.finish(queue, memory)?;
            // A full ring is announced when it has room again.
            if self.is_full() || !chain::listen(queue, memory)? {
                return Ok(any);
            }
        }
    }

    /// Takes what the queue has and the ring has room for.
    fn take(&mut self, queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<bool, Broken> {
        let mut answered = false;
        while !self.is_full() {
            let Some(chain) = chain::pop(queue, memory)? else { break };
            let request = request::parse(&chain, memory)?;
            let Some(Flight { chain, request }) = self.begin(Flight { chain, request }, memory) else {
                continue;
            };
            let result = self.perform(&request, memory);
            self.answer(&chain, &request, result, queue, memory)?;
            answered = true;
        }
        Ok(answered)
    }

    /// Hands a request to the ring, or gives it back if it is not for it.
    fn begin(&mut self, flight: Flight, memory: &GuestMemoryMmap) -> Option<Flight> {
        let RingState::Open(ring) = &mut self.ring else { return Some(flight) };
        let Some((operation, file)) = plan(&self.disk, &flight.request) else { return Some(flight) };
        let mut slices = Vec::new();
        let data = match &flight.request {
            Request::Read { into, .. } => into.slices(memory, &mut slices),
            Request::Write { from, .. } => from.slices(memory, &mut slices),
            _ => Ok(()),
        };
        if data.is_err() {
            return Some(flight);
        }
        ring.begin(operation, file, (memory, &slices), flight);
        None
    }

    fn submit(&mut self) -> Result<(), Broken> {
        match &mut self.ring {
            RingState::Open(ring) => ring.submit().map_err(|e| Broken(format!("the host's io_uring: {e}"))),
            RingState::Unknown | RingState::Refused => Ok(()),
        }
    }

    /// Answers what the ring has finished. Says whether there was any.
    fn finish(&mut self, queue: &mut Queue, memory: &GuestMemoryMmap) -> Result<bool, Broken> {
        let mut any = false;
        while let RingState::Open(ring) = &mut self.ring
            && let Some((Flight { chain, request }, moved)) = ring.next_finished()
        {
            let result = self.settle(&request, moved, memory);
            self.answer(&chain, &request, result, queue, memory)?;
            any = true;
        }
        Ok(any)
    }

    /// What became of a request that the ring has done as far as it could; the rest is done here.
    fn settle(
        &self,
        request: &Request,
        moved: io::Result<usize>,
        memory: &GuestMemoryMmap,
    ) -> Result<usize, DiskError> {
        let moved = match moved {
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            result => result?,
        };
        match request {
            Request::Read { start, into } if moved < into.len() => {
                let rest = into.range(moved, into.len() - moved);
                self.disk.read(start + moved as u64, &rest, memory)?;
            }
            Request::Write { start, from } if moved < from.len() => {
                let rest = from.range(moved, from.len() - moved);
                self.disk.write(start + moved as u64, &rest, memory)?;
            }
            Request::Flush => self.disk.check_flushed()?,
            _ => {}
        }
        Ok(self.count(request))
    }

    pub(super) fn is_idle(&self) -> bool {
        if let RingState::Open(ring) = &self.ring { ring.is_idle() } else { true }
    }

    fn is_full(&self) -> bool {
        if let RingState::Open(ring) = &self.ring { ring.is_full() } else { false }
    }

    fn has_finished(&mut self) -> bool {
        if let RingState::Open(ring) = &mut self.ring { ring.has_finished() } else { false }
    }

    fn announce(&mut self, wanted: bool) {
        if let RingState::Open(ring) = &mut self.ring {
            ring.announce(wanted);
        }
    }

    /// The announcements so far were heard.
    pub(super) fn acknowledge(&self) {
        if let RingState::Open(ring) = &self.ring {
            ring.acknowledge();
        }
    }

    /// Waits until everything that was taken is answered.
    pub(super) fn complete_all(
        &mut self,
        queue: &mut Queue,
        memory: &GuestMemoryMmap,
    ) -> Result<bool, Broken> {
        let mut any = self.finish(queue, memory)?;
        while !self.is_idle() {
            if let RingState::Open(ring) = &mut self.ring {
                // It fails when a signal interrupts it, and then the loop comes round.
                ring.wait().ok();
            }
            any |= self.finish(queue, memory)?;
        }
        Ok(any)
    }

    /// Waits until nothing is under way, and answers nothing: its driver has begun anew.
    pub(super) fn forget_all(&mut self) {
        if let RingState::Open(ring) = &mut self.ring {
            ring.drain();
            if !ring.is_idle() {
                // What the kernel did not take would be in the next driver's way.
                self.ring = RingState::Refused;
            }
        }
    }

    /// Does one request on this thread, and gives the number of data bytes written to the guest.
    fn perform(&self, request: &Request, memory: &GuestMemoryMmap) -> Result<usize, DiskError> {
        match request {
            Request::Read { start, into } => self.disk.read(*start, into, memory)?,
            Request::Write { start, from } => self.disk.write(*start, from, memory)?,
            Request::Flush => self.disk.flush()?,
            Request::GetId { into } => {
                into.write(memory, &self.id).map_err(|_| DiskError::Refused)?;
            }
            Request::Discard(ranges) => {
                check_lengths(ranges)?;
                ranges.iter().try_for_each(|range| self.discard(range))?;
            }
            Request::WriteZeroes(ranges) => {
                check_lengths(ranges)?;
                ranges.iter().try_for_each(|range| self.write_zeroes(range))?;
            }
            Request::Unsupported => return Err(DiskError::Unsupported),
            Request::Malformed => return Err(DiskError::Refused),
        }
        Ok(self.count(request))
    }

    fn discard(&self, range: &Range) -> Result<(), DiskError> {
        self.disk.punch_hole(range.start, range.length)?;
        add(&self.disk.statistics().discarded_bytes, range.length);
        Ok(())
    }

    fn write_zeroes(&self, range: &Range) -> Result<(), DiskError> {
        if range.may_unmap {
            self.disk.punch_hole(range.start, range.length)
        } else {
            self.disk.zero(range.start, range.length)
        }
    }

    /// Counts a request that succeeded, and gives the number of data bytes written to the guest.
    fn count(&self, request: &Request) -> usize {
        let statistics = self.disk.statistics();
        match request {
            Request::Read { into, .. } => {
                add(&statistics.reads, 1);
                add(&statistics.read_bytes, into.len() as u64);
                return into.len();
            }
            Request::Write { from, .. } => {
                add(&statistics.writes, 1);
                add(&statistics.written_bytes, from.len() as u64);
            }
            Request::Flush => add(&statistics.flushes, 1),
            Request::GetId { .. } => return ID_BYTES,
            _ => {}
        }
        0
    }

    /// Tells the driver how its request ended.
    fn answer(
        &self,
        chain: &Chain,
        request: &Request,
        result: Result<usize, DiskError>,
        queue: &mut Queue,
        memory: &GuestMemoryMmap,
    ) -> Result<(), Broken> {
        if let Err(error) = &result {
            add(&self.disk.statistics().errors, 1);
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
        chain::complete(queue, memory, chain, result.unwrap_or(0) + 1)
    }
}

/// How the ring would do a request; `None` if it is none for it.
fn plan(disk: &Disk, request: &Request) -> Option<(Operation, Arc<File>)> {
    match request {
        Request::Read { start, into } => {
            let (file, offset) = disk.place(*start, into.len())?;
            Some((Operation::Read { offset }, file))
        }
        Request::Write { start, from } => {
            let (file, offset) = disk.place_for_writing(*start, from.len())?;
            Some((Operation::Write { offset }, file))
        }
        Request::Flush => Some((Operation::Flush, disk.place_to_flush()?)),
        _ => None,
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Lengths within what the configuration space allows, so that no request holds the device's thread for long.
fn check_lengths(ranges: &[Range]) -> Result<(), DiskError> {
    let limit = u64::from(MAX_RANGE_SECTORS) * SECTOR_BYTES;
    let fits = ranges.iter().all(|range| range.length > 0 && range.length <= limit);
    if fits { Ok(()) } else { Err(DiskError::Refused) }
}
