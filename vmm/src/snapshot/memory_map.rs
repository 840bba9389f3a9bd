//! RAM that comes from a snapshot's files: mapped privately, so that the guest's writes stay its own.
//!
//! ```text
//!   2 MiB chunks of RAM          what is mapped there
//!   nothing in the files         anonymous memory, huge pages
//!   in the working set           the same, filled from the files on touch or before (`lazy_pages`)
//!   anything else                the base file, and over it the changed pages of the second one
//! ```

#![expect(unsafe_code, reason = "mappings at chosen addresses have no safe form")]

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ptr::{NonNull, null_mut, without_provenance_mut};

use rustix::fs::SeekFrom;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous};
use vm_memory::mmap::MmapRegionError;
use vm_memory::{GuestAddress, GuestRegionCollectionError};

use super::lazy_pages::LazyPages;
use super::pages::PageRun;
use super::userfault::UserFaults;
use super::working_set::{CHUNK_BYTES, WorkingSet};
use crate::layout::PAGE_BYTES;
use crate::memory::{GuestMemoryMmap, GuestRegionMmap, MmapRegion, ram_ranges};

const CHUNK_PAGES: u64 = CHUNK_BYTES / PAGE_BYTES;

/// The open files of a snapshot's memory.
#[derive(Debug)]
pub(crate) struct MemorySources {
    pub(crate) base: File,
    /// The pages that are newer, and the file they are in.
    pub(crate) changes: Option<(File, Vec<PageRun>)>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum MapError {
    #[error("cannot map guest memory: {0}")]
    Map(#[from] io::Error),
    #[error("cannot describe guest memory: {0}")]
    Describe(#[from] MmapRegionError),
    #[error("cannot place guest memory: {0}")]
    Place(#[from] GuestRegionCollectionError),
}

/// A region of RAM: where its bytes are in a memory file, and where in this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) offset_bytes: u64,
    pub(super) length_bytes: u64,
    pub(super) host: usize,
}

/// RAM, ready for a machine.
pub(crate) struct MappedMemory {
    pub(crate) memory: GuestMemoryMmap,
    /// What is still to be filled: somebody must, or the guest waits for ever.
    pub(crate) lazy: Option<LazyPages>,
}

/// Maps RAM of `memory_bytes` from a snapshot's files, which were found to be the right ones. Without `working_set` or
/// `faults` every page is copied when it is first written.
///
/// # Errors
/// The files cannot be mapped, or the host has no address space.
pub(crate) fn map(
    memory_bytes: u64,
    sources: MemorySources,
    working_set: Option<&WorkingSet>,
    faults: Option<UserFaults>,
) -> Result<MappedMemory, MapError> {
    let mut memory = GuestMemoryMmap::new();
    let mut placed = Vec::new();
    let mut offset_bytes = 0;
    for (start, length_bytes) in ram_ranges(memory_bytes) {
        let host = reserve(length_bytes)?;
        placed.push(Placed { offset_bytes, length_bytes, host: host.as_ptr().addr() });
        memory = memory.insert_region(region(host, start, length_bytes)?.into())?;
        offset_bytes += length_bytes;
    }
    let chunks = Chunks::find(&sources.base, memory_bytes, working_set)?;
    let (chunks, faults) = chunks.register(&placed, faults);
    for run in chunks.mapped_runs() {
        map_file(&placed, &sources.base, run)?;
    }
    if let Some((file, runs)) = &sources.changes {
        for run in runs.iter().flat_map(|run| chunks.mapped_parts(*run)) {
            map_file(&placed, file, run)?;
        }
    }
    let lazy = faults.map(|faults| LazyPages::new(faults, placed, sources, chunks.lazy)).transpose()?;
    Ok(MappedMemory { memory, lazy })
}

/// How each chunk of a memory file, by number, comes into memory.
struct Chunks {
    /// Those that the base file has content for, ascending.
    with_data: Vec<u32>,
    /// Those of them that are filled on touch, in the working set's order.
    lazy: Vec<u32>,
    is_lazy: HashSet<u32>,
}

impl Chunks {
    fn find(base: &File, memory_bytes: u64, working_set: Option<&WorkingSet>) -> io::Result<Self> {
        let with_data = chunks_with_data(base, memory_bytes)?;
        let whole = memory_bytes / CHUNK_BYTES;
        let mut is_lazy = HashSet::new();
        let can_be = |chunk: &u32| u64::from(*chunk) < whole && with_data.binary_search(chunk).is_ok();
        let wanted = working_set.map_or(&[][..], |set| &set.chunks).iter().copied();
        let lazy = wanted.filter(|chunk| can_be(chunk) && is_lazy.insert(*chunk)).collect();
        Ok(Self { with_data, lazy, is_lazy })
    }

    /// Has the kernel tell when one of the lazy chunks is touched. Where it does not, none is lazy.
    fn register(self, placed: &[Placed], faults: Option<UserFaults>) -> (Self, Option<UserFaults>) {
        let mut ascending = self.lazy.clone();
        ascending.sort_unstable();
        let register = |faults: &UserFaults| {
            runs_of(&ascending).into_iter().try_for_each(|run| {
                let (host, length) = locate(placed, run)?;
                faults.register(host, length)
            })
        };
        match faults {
            Some(faults) if !self.lazy.is_empty() && register(&faults).is_ok() => (self, Some(faults)),
            // Dropping the descriptor undoes what was registered.
            _ => (Self { lazy: Vec::new(), is_lazy: HashSet::new(), ..self }, None),
        }
    }

    /// The pages of chunks that are mapped from the base file.
    fn mapped_runs(&self) -> Vec<PageRun> {
        let mapped: Vec<u32> =
            self.with_data.iter().copied().filter(|chunk| !self.is_lazy.contains(chunk)).collect();
        runs_of(&mapped)
    }

    /// The parts of a run that lie in chunks which are not lazy.
    fn mapped_parts(&self, run: PageRun) -> impl Iterator<Item = PageRun> {
        let mut next = run.first;
        let end = run.first + run.count;
        std::iter::from_fn(move || {
            while next < end {
                let chunk = next / CHUNK_PAGES;
                let first = next;
                next = ((chunk + 1) * CHUNK_PAGES).min(end);
                if !u32::try_from(chunk).is_ok_and(|chunk| self.is_lazy.contains(&chunk)) {
                    return Some(PageRun { first, count: next - first });
                }
            }
            None
        })
    }
}

/// The chunks of a sparse file that are not holes altogether, ascending.
fn chunks_with_data(file: &File, memory_bytes: u64) -> io::Result<Vec<u32>> {
    let mut chunks = Vec::new();
    let mut offset = 0;
    while offset < memory_bytes {
        let data = match rustix::fs::seek(file, SeekFrom::Data(offset)) {
            Ok(data) => data,
            // Nothing but a hole up to the end.
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let hole = rustix::fs::seek(file, SeekFrom::Hole(data))?.min(memory_bytes);
        let (first, end) = (data / CHUNK_BYTES, hole.div_ceil(CHUNK_BYTES));
        chunks.extend((first..end).map_while(|chunk| u32::try_from(chunk).ok()));
        offset = end.max(first + 1) * CHUNK_BYTES;
    }
    Ok(chunks)
}

/// Ascending chunks as runs of pages.
fn runs_of(chunks: &[u32]) -> Vec<PageRun> {
    let mut runs: Vec<PageRun> = Vec::new();
    for chunk in chunks {
        let first = u64::from(*chunk) * CHUNK_PAGES;
        match runs.last_mut() {
            Some(last) if last.first + last.count == first => last.count += CHUNK_PAGES,
            _ => runs.push(PageRun { first, count: CHUNK_PAGES }),
        }
    }
    runs
}

/// Address space for a region, at an address where huge pages fit. Nobody unmaps it: a machine's memory lives as long as its
/// process.
fn reserve(length_bytes: u64) -> io::Result<NonNull<u8>> {
    let length = usize_of(length_bytes)?;
    let spare = usize_of(CHUNK_BYTES)?;
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE | MapFlags::NORESERVE);
    // SAFETY: a new mapping where the kernel finds room.
    let larger = unsafe { mmap_anonymous(null_mut(), length + spare, protection, flags) }?;
    let skipped = larger.cast::<u8>().align_offset(spare);
    // SAFETY: `skipped` is below `spare`, so the result lies in the mapping with `length` bytes behind it.
    let start = unsafe { larger.cast::<u8>().add(skipped) };
    // SAFETY: exactly these bytes were mapped above, and the advice changes no contents.
    match unsafe { madvise(start.cast(), length, Advice::LinuxHugepage) } {
        // A kernel built without transparent huge pages; small ones work too.
        Ok(()) | Err(rustix::io::Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    NonNull::new(start).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// The mapping does not say that it is anonymous: parts of it are not, and giving those back would bring the file's
/// content back.
fn region(host: NonNull<u8>, start: u64, length_bytes: u64) -> Result<GuestRegionMmap, MapError> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_NORESERVE);
    // SAFETY: `host` was reserved with this length, readable and writable, and is never unmapped.
    let mapping =
        unsafe { MmapRegion::build_raw(host.as_ptr(), usize_of(length_bytes)?, protection, flags) }?;
    Ok(GuestRegionMmap::new(mapping, GuestAddress(start)).expect("RAM ends below 2^64: its size was checked"))
}

/// Maps the file's pages over the reservation, or as many of them as the RAM has.
fn map_file(placed: &[Placed], file: &File, run: PageRun) -> io::Result<()> {
    let mut rest = run;
    while rest.count > 0 {
        let (host, length) = match locate(placed, rest) {
            Ok(found) => found,
            // The last chunk may be cut off by the end of memory.
            Err(_) if rest.first > run.first => break,
            Err(error) => return Err(error),
        };
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let at = without_provenance_mut(host);
        // SAFETY: replaces a part of a region that was reserved for this, and that nobody uses yet.
        unsafe { mmap(at, length, protection, flags, file, rest.start_bytes()) }?;
        let mapped = length as u64 / PAGE_BYTES;
        rest = PageRun { first: rest.first + mapped, count: rest.count - mapped };
    }
    Ok(())
}

/// Where the first of these pages are in this process, and how many bytes of them are there without a gap.
pub(super) fn locate(placed: &[Placed], run: PageRun) -> io::Result<(usize, usize)> {
    let start = run.start_bytes();
    let is_inside =
        |region: &&Placed| (region.offset_bytes..region.offset_bytes + region.length_bytes).contains(&start);
    let region =
        placed.iter().find(is_inside).ok_or_else(|| io::Error::other("pages beyond the end of memory"))?;
    let within = start - region.offset_bytes;
    Ok((region.host + usize_of(within)?, usize_of(run.length_bytes().min(region.length_bytes - within))?))
}

fn usize_of(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(io::Error::other)
}
