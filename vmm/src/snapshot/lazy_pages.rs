//! Fills the working set of a restored machine, chunk by chunk: those that somebody waits for, then all others.
//!
//! A chunk is read into a huge page of ours and moved to where the guest misses it, in one step and as a huge page: one
//! fault instead of 512, each of which leaves the guest. Where a part of the chunk is somebody else's already (a balloon
//! gave pages back), what is left is copied page by page.

#![expect(unsafe_code, reason = "memory that the kernel moves away under us")]

use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::ptr::{NonNull, null_mut};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{SeekFrom, seek};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

use super::memory_map::{MemorySources, Placed, locate};
use super::pages::PageRun;
use super::userfault::UserFaults;
use super::working_set::CHUNK_BYTES;
use crate::control::MachineExit;
use crate::jail::ThreadKind;
use crate::layout::PAGE_BYTES;
use crate::machine_thread;

const CHUNK_PAGES: u64 = CHUNK_BYTES / PAGE_BYTES;
#[expect(clippy::cast_possible_truncation, reason = "2 MiB")]
const CHUNK_LENGTH: usize = CHUNK_BYTES as usize;
#[expect(clippy::cast_possible_truncation, reason = "4 KiB")]
const PAGE_LENGTH: usize = PAGE_BYTES as usize;

/// Chunks that are registered and not filled yet.
#[derive(Debug)]
pub(crate) struct LazyPages {
    faults: UserFaults,
    placed: Vec<Placed>,
    sources: MemorySources,
    waiting: VecDeque<u32>,
    filled: HashSet<u32>,
    scratch: Scratch,
}

/// The thread that fills them. Dropping it stops that, which must come after everything that touches the memory.
pub(crate) struct Filling {
    stop: std::os::fd::OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl LazyPages {
    pub(super) fn new(
        faults: UserFaults,
        placed: Vec<Placed>,
        sources: MemorySources,
        chunks: Vec<u32>,
    ) -> io::Result<Self> {
        let (waiting, filled) = (chunks.into(), HashSet::new());
        Ok(Self { faults, placed, sources, waiting, filled, scratch: Scratch::new()? })
    }

    /// Starts filling. If the files cannot be read, the machine ends.
    ///
    /// # Errors
    /// The host has no more threads or descriptors.
    pub(crate) fn start(self, exits: Sender<MachineExit>) -> io::Result<Filling> {
        let stop = eventfd(0, EventfdFlags::CLOEXEC)?;
        let stopped = stop.try_clone()?;
        let mut filler = self;
        let body = move || {
            let error = filler.fill_all(&stopped).err()?;
            filler.poison_rest();
            Some(MachineExit::Failed { message: format!("the snapshot's memory cannot be read: {error}") })
        };
        let thread =
            machine_thread::spawn(ThreadKind::Memory, ThreadKind::Memory.name().to_owned(), exits, body)?;
        Ok(Filling { stop, thread: Some(thread) })
    }

    /// Until everything is filled, or `stop` becomes readable.
    fn fill_all(&mut self, stop: &impl AsFd) -> io::Result<()> {
        const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            let mut ready = [PollFd::new(stop, PollFlags::IN), PollFd::new(&self.faults, PollFlags::IN)];
            match poll(&mut ready, Some(&NOW)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            if ready[0].revents().contains(PollFlags::IN) {
                return Ok(());
            }
            if let Some(address) = self.faults.next_address()? {
                self.fill_at(address)?;
            } else if let Some(chunk) = self.waiting.pop_front() {
                self.fill(chunk)?;
            } else {
                // The descriptor closes: nobody has to wait for anything any more.
                return Ok(());
            }
        }
    }

    fn fill_at(&mut self, address: usize) -> io::Result<()> {
        let holds = |region: &&Placed| {
            address.checked_sub(region.host).is_some_and(|within| (within as u64) < region.length_bytes)
        };
        let Some(region) = self.placed.iter().find(holds) else { return Ok(()) };
        let chunk = (region.offset_bytes + (address - region.host) as u64) / CHUNK_BYTES;
        let chunk = u32::try_from(chunk).map_err(io::Error::other)?;
        if self.filled.contains(&chunk) { self.fill_again(address) } else { self.fill(chunk) }
    }

    /// Several waited for a chunk, or a page of it was given back since, and is zeros then.
    fn fill_again(&self, address: usize) -> io::Result<()> {
        let page = address - address % PAGE_LENGTH;
        match self.faults.copy_page(page, &[0; PAGE_LENGTH]) {
            Ok(()) => Ok(()),
            Err(_) => self.faults.wake(page, PAGE_LENGTH),
        }
    }

    fn fill(&mut self, chunk: u32) -> io::Result<()> {
        if self.filled.contains(&chunk) {
            return Ok(());
        }
        let (host, length) = self.locate(chunk)?;
        self.scratch.load(&self.sources, chunk).inspect_err(|_| self.waiting.push_back(chunk))?;
        self.filled.insert(chunk);
        // SAFETY: the scratch chunk is ours alone, and `load` is the only one that refers to it, for itself.
        let moved = unsafe { self.faults.move_pages(host, self.scratch.address(), length) };
        if moved.is_err() {
            self.copy_missing(host)?;
            self.scratch.clear()?;
        }
        Ok(())
    }

    /// Puts the scratch chunk's pages where they are still missing.
    fn copy_missing(&self, host: usize) -> io::Result<()> {
        for (index, page) in self.scratch.bytes().chunks_exact(PAGE_LENGTH).enumerate() {
            match self.faults.copy_page(host + index * PAGE_LENGTH, page) {
                Ok(()) => {}
                // There is one already, or it is no longer registered.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::ENOENT)) => {}
                Err(error) => return Err(error),
            }
        }
        self.faults.wake(host, CHUNK_LENGTH)
    }

    /// Better a machine that fails than one that goes on with zeros.
    fn poison_rest(&self) {
        for chunk in self.waiting.iter().filter(|chunk| !self.filled.contains(chunk)) {
            if let Ok((host, length)) = self.locate(*chunk) {
                self.faults.poison(host, length).ok();
            }
        }
    }

    fn locate(&self, chunk: u32) -> io::Result<(usize, usize)> {
        locate(&self.placed, run_of(chunk))
    }
}

fn run_of(chunk: u32) -> PageRun {
    PageRun { first: u64::from(chunk) * CHUNK_PAGES, count: CHUNK_PAGES }
}

impl Drop for Filling {
    fn drop(&mut self) {
        let stopped = rustix::io::write(&self.stop, &1u64.to_ne_bytes());
        if let (Ok(_), Some(thread)) = (stopped, self.thread.take()) {
            // The thread catches its own panics.
            drop(thread.join());
        }
    }
}

/// One chunk of anonymous memory, aligned so that it can be a huge page.
#[derive(Debug)]
struct Scratch {
    mapping: NonNull<u8>,
    chunk: NonNull<u8>,
}

// SAFETY: a mapping that only its owner knows.
unsafe impl Send for Scratch {}

impl Scratch {
    fn new() -> io::Result<Self> {
        let (protection, flags) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
        // SAFETY: a new mapping where the kernel finds room.
        let mapping =
            unsafe { mmap_anonymous(null_mut(), 2 * CHUNK_LENGTH, protection, flags) }?.cast::<u8>();
        // SAFETY: an aligned address is found within the first chunk's length.
        let chunk = unsafe { mapping.add(mapping.align_offset(CHUNK_LENGTH)) };
        // SAFETY: the chunk lies in the mapping; without huge pages this fails, and small ones are moved.
        unsafe { madvise(chunk.cast(), CHUNK_LENGTH, Advice::LinuxHugepage) }.ok();
        let not_null = |pointer| NonNull::new(pointer).ok_or(io::ErrorKind::OutOfMemory);
        Ok(Self { mapping: not_null(mapping)?, chunk: not_null(chunk)? })
    }

    fn address(&self) -> usize {
        self.chunk.as_ptr().addr()
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: a readable chunk of ours, that nobody writes while this reference lives.
        unsafe { std::slice::from_raw_parts(self.chunk.as_ptr(), CHUNK_LENGTH) }
    }

    /// Makes the chunk zeros again, as a chunk that was moved away is.
    fn clear(&mut self) -> io::Result<()> {
        // SAFETY: the chunk is ours; nobody refers to it while `&mut self` lasts.
        Ok(unsafe { madvise(self.chunk.as_ptr().cast(), CHUNK_LENGTH, Advice::LinuxDontNeed) }?)
    }

    /// Reads a chunk into memory that is zeros: the base's pages, and over them those that changed.
    fn load(&mut self, sources: &MemorySources, chunk: u32) -> io::Result<()> {
        // SAFETY: a writable chunk of ours; `&mut self` keeps others out.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.chunk.as_ptr(), CHUNK_LENGTH) };
        let whole = run_of(chunk);
        read_sparsely(&sources.base, bytes, whole.start_bytes())?;
        let Some((file, runs)) = &sources.changes else { return Ok(()) };
        let end = whole.first + whole.count;
        let first = runs.partition_point(|run| run.first + run.count <= whole.first);
        for run in runs[first..].iter().take_while(|run| run.first < end) {
            let (from, to) = (run.first.max(whole.first), (run.first + run.count).min(end));
            let within =
                |page: u64| usize::try_from((page - whole.first) * PAGE_BYTES).unwrap_or(CHUNK_LENGTH);
            file.read_exact_at(&mut bytes[within(from)..within(to)], from * PAGE_BYTES)?;
        }
        Ok(())
    }
}

/// Reads what the file has of a chunk into fresh memory, which is zeros where the file has holes.
fn read_sparsely(file: &File, bytes: &mut [u8], start_bytes: u64) -> io::Result<()> {
    let end = start_bytes + bytes.len() as u64;
    let within = |offset: u64| usize::try_from(offset.min(end) - start_bytes).unwrap_or(CHUNK_LENGTH);
    let mut offset = start_bytes;
    while offset < end {
        let data = match seek(file, SeekFrom::Data(offset)) {
            Ok(data) if data < end => data,
            Ok(_) | Err(rustix::io::Errno::NXIO) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let hole = seek(file, SeekFrom::Hole(data))?;
        file.read_exact_at(&mut bytes[within(data)..within(hole)], data)?;
        offset = hole;
    }
    Ok(())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, with this length, and goes with its owner.
        unsafe { munmap(self.mapping.as_ptr().cast(), 2 * CHUNK_LENGTH) }.ok();
    }
}
