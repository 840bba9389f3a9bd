//! Transfers between files and guest memory that go on while the device's thread does something else: io_uring.
//!
//! A transfer is begun with everything it needs to stay valid (its file, the guest's memory, the list of pieces) and a
//! ticket, which comes back when it is finished. The ring refuses every operation but these; hosts may refuse the ring.

#![expect(unsafe_code, reason = "the kernel keeps pointers into guest memory after a call has returned")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode, types};
use rustix::event::{PollFd, PollFlags, poll};
use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use crate::memory::{GuestMemoryMmap, VolatileSlice};

/// Transfers under way; the next one waits in the guest's queue.
pub(super) const MAX_TRANSFERS: u16 = 128;

/// What the ring may be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// From the file, at this offset in bytes, into guest memory.
    Read { offset: u64 },
    /// The other way.
    Write { offset: u64 },
    /// Brings what was written to stable storage.
    Flush,
}

/// The ring, and what its transfers use. `T` is the caller's ticket.
pub(super) struct Ring<T> {
    uring: IoUring,
    /// Counts up when a transfer finishes.
    event: Arc<OwnedFd>,
    transfers: Vec<Option<Transfer<T>>>,
    /// Places of `transfers` without a transfer, and lists of pieces to be used again.
    free: Vec<u16>,
    spare: Vec<Vec<libc::iovec>>,
    /// The guest's memory as of the last transfer: as long as it stays the same, one handle serves all.
    memory: Option<Arc<GuestMemoryMmap>>,
    /// Begun, and not yet shown to the kernel.
    unsubmitted: usize,
}

struct Transfer<T> {
    ticket: T,
    pieces: Vec<libc::iovec>,
    _file: Arc<File>,
    _memory: Option<Arc<GuestMemoryMmap>>,
}

// SAFETY: the raw pointers in it are addresses for the kernel; no thread dereferences them.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T> Ring<T> {
    /// `event` becomes readable when transfers finish.
    ///
    /// # Errors
    /// The host has no such ring, or does not let us have one, or cannot restrict it.
    pub(super) fn open(event: Arc<OwnedFd>) -> io::Result<Self> {
        let uring = IoUring::builder().setup_r_disabled().build(MAX_TRANSFERS.into())?;
        if !uring.params().is_feature_submit_stable() || !uring.params().is_feature_nodrop() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let submitter = uring.submitter();
        submitter.register_eventfd(event.as_raw_fd())?;
        let allowed = [opcode::Readv::CODE, opcode::Writev::CODE, opcode::Fsync::CODE];
        submitter.register_restrictions(&mut allowed.map(Restriction::sqe_op))?;
        submitter.register_enable_rings()?;
        Ok(Self {
            uring,
            event,
            transfers: (0..MAX_TRANSFERS).map(|_| None).collect(),
            free: (0..MAX_TRANSFERS).rev().collect(),
            spare: Vec::new(),
            memory: None,
            unsubmitted: 0,
        })
    }

    pub(super) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.free.len() == self.transfers.len()
    }

    /// Begins an operation on `file`; it is under way after the next [`Self::submit`]. `slices` are of `memory`. Must
    /// not be called on a full ring.
    pub(super) fn begin(
        &mut self,
        operation: Operation,
        file: Arc<File>,
        (memory, slices): (&GuestMemoryMmap, &[VolatileSlice<'_>]),
        ticket: T,
    ) {
        let place = self.free.pop().expect("the caller saw that the ring is not full");
        let mut pieces = self.spare.pop().unwrap_or_default();
        pieces.extend(slices.iter().map(|slice| libc::iovec {
            iov_base: slice.ptr_guard_mut().as_ptr().cast(),
            iov_len: slice.len(),
        }));
        let fd = types::Fd(file.as_raw_fd());
        let count = u32::try_from(pieces.len()).expect("a chain has few segments");
        let entry = match operation {
            Operation::Read { offset } => {
                opcode::Readv::new(fd, pieces.as_ptr(), count).offset(offset).build()
            }
            Operation::Write { offset } => {
                opcode::Writev::new(fd, pieces.as_ptr(), count).offset(offset).build()
            }
            Operation::Flush => opcode::Fsync::new(fd).flags(types::FsyncFlags::DATASYNC).build(),
        };
        let memory = (!slices.is_empty()).then(|| self.share(memory));
        self.transfers[usize::from(place)] = Some(Transfer { ticket, pieces, _file: file, _memory: memory });
        // SAFETY: the file, the memory and the list of pieces are kept in `transfers` until the kernel has said that
        // it is done with them. The guest may change the memory meanwhile, as under any system call into it.
        let pushed = unsafe { self.uring.submission().push(&entry.user_data(place.into())) };
        pushed.expect("the queue of submissions has a place for each transfer");
        self.unsubmitted += 1;
    }

    /// A handle that keeps the memory mapped: the one of the last transfer, if that was in the same memory.
    fn share(&mut self, memory: &GuestMemoryMmap) -> Arc<GuestMemoryMmap> {
        let places = |memory: &GuestMemoryMmap| -> [Option<(usize, u64)>; 2] {
            let mut regions = memory.iter().map(|region| (region.as_ptr().addr(), region.len()));
            [regions.next(), regions.next()]
        };
        match &self.memory {
            // Two regions are all that there are; memory that came to lie at the same place is as good.
            Some(kept) if places(kept) == places(memory) && memory.num_regions() <= 2 => kept.clone(),
            _ => self.memory.insert(Arc::new(memory.clone())).clone(),
        }
    }

    /// Shows the kernel what was begun.
    ///
    /// # Errors
    /// It does not take it; what was begun and not taken never finishes.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        while self.unsubmitted > 0 {
            match self.uring.submit() {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => self.unsubmitted -= taken,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// The ticket of a finished transfer, and how many bytes it moved.
    pub(super) fn next_finished(&mut self) -> Option<(T, io::Result<usize>)> {
        let completion = self.uring.completion().next()?;
        let place = u16::try_from(completion.user_data()).expect("the kernel gives back what it was given");
        let transfer = self.transfers[usize::from(place)].take().expect("each transfer finishes once");
        self.free.push(place);
        let mut pieces = transfer.pieces;
        pieces.clear();
        self.spare.push(pieces);
        let result = usize::try_from(completion.result())
            .map_err(|_| io::Error::from_raw_os_error(-completion.result()));
        Some((transfer.ticket, result))
    }

    /// Whether [`Self::next_finished`] would give something.
    pub(super) fn has_finished(&mut self) -> bool {
        !self.uring.completion().is_empty()
    }

    /// While `false`, finished transfers are not announced: somebody looks for them anyway.
    pub(super) fn announce(&mut self, wanted: bool) {
        let completions = self.uring.completion();
        if wanted { completions.enable_eventfd() } else { completions.disable_eventfd() }
    }

    /// Waits until a transfer is finished, if one is under way. For when nothing else can be done.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        self.announce(true);
        if !self.has_finished() {
            poll(&mut [PollFd::new(&*self.event, PollFlags::IN)], None)?;
        }
        self.acknowledge();
        Ok(())
    }

    /// The announcements so far were heard.
    pub(super) fn acknowledge(&self) {
        // Nothing to be read: there was none.
        rustix::io::read(&*self.event, &mut [0; 8]).ok();
    }

    fn under_way(&self) -> usize {
        self.transfers.len() - self.free.len() - self.unsubmitted
    }

    /// Waits for all that is under way, and forgets it.
    pub(super) fn drain(&mut self) {
        while self.under_way() > 0 {
            if self.next_finished().is_none() {
                // It fails when a signal interrupts it, and then the loop comes round.
                self.wait().ok();
            }
        }
        self.memory = None;
    }
}

/// The kernel must be done with the pieces before they are freed.
impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        self.drain();
    }
}

impl<T> std::fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("under_way", &self.under_way()).finish_non_exhaustive()
    }
}
