//! A KVM machine's RAM: anonymous memory of this process, huge where the host can, never preallocated.
//!
//! The guest's accesses are KVM's business and the devices' go through `vm-memory`, which checks every address.

#![expect(unsafe_code, reason = "madvise and hand-aligned mappings have no safe form")]

use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::mm::{Advice, madvise};
use vm_memory::bitmap::BS;
use vm_memory::mmap::MmapRegionError;
use vm_memory::{FileOffset, GuestAddress, GuestRegionCollectionError};

use crate::dirty_pages::DirtyPages;
use crate::layout;

/// A machine's RAM, which knows the pages that this process has written.
pub(crate) type GuestMemoryMmap = vm_memory::GuestMemoryMmap<DirtyPages>;
/// A piece of [`GuestMemoryMmap`].
pub(crate) type VolatileSlice<'a> = vm_memory::VolatileSlice<'a, BS<'a, DirtyPages>>;
pub(crate) type GuestRegionMmap = vm_memory::GuestRegionMmap<DirtyPages>;
pub(crate) type MmapRegion = vm_memory::MmapRegion<DirtyPages>;

/// Host and guest address must be congruent modulo this for KVM to map a huge page at once.
const HUGE_PAGE_BYTES: usize = 2 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum MemoryError {
    #[error("cannot reserve {bytes} bytes of address space for guest memory")]
    Map { bytes: u64, source: MmapRegionError },
    #[error("cannot make a file for guest memory: {0}")]
    File(io::Error),
    #[error("cannot prepare guest memory for huge pages: {0}")]
    Advise(io::Error),
    #[error("guest memory at {start:#x}")]
    Place { start: u64, source: GuestRegionCollectionError },
}

/// Where RAM of this size lies: (start, bytes) of each range. The second one is above the devices' gap.
pub(crate) fn ram_ranges(memory_bytes: u64) -> Vec<(u64, u64)> {
    let below_gap = memory_bytes.min(layout::DEVICE_GAP_START);
    let mut ranges = vec![(0, below_gap)];
    if memory_bytes > below_gap {
        ranges.push((layout::DEVICE_GAP_END, memory_bytes - below_gap));
    }
    ranges
}

/// Reserves RAM of `memory_bytes`, a multiple of the page size. Pages come into being when they are touched.
///
/// # Errors
/// The host has no address space for it.
pub(crate) fn allocate(memory_bytes: u64) -> Result<GuestMemoryMmap, MemoryError> {
    let mut memory = GuestMemoryMmap::new();
    for (start, bytes) in ram_ranges(memory_bytes) {
        let mapping = map_aligned(bytes)?;
        advise_huge_pages(&mapping).map_err(MemoryError::Advise)?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(start))
            .expect("a range ends below 2^64: the configuration bounds memory");
        memory =
            memory.insert_region(region.into()).map_err(|source| MemoryError::Place { start, source })?;
    }
    Ok(memory)
}

/// As [`allocate`], of a file in memory, which other processes can map as well once they are given it.
///
/// # Errors
/// The host has no more descriptors, or no address space.
pub(crate) fn allocate_shareable(memory_bytes: u64) -> Result<GuestMemoryMmap, MemoryError> {
    let file = Arc::new(memory_file(memory_bytes).map_err(MemoryError::File)?);
    let mut memory = GuestMemoryMmap::new();
    let mut offset = 0;
    for (start, bytes) in ram_ranges(memory_bytes) {
        let length = usize::try_from(bytes).expect("x86-64 addresses fit usize");
        let mapping = MmapRegion::from_file(FileOffset::from_arc(file.clone(), offset), length)
            .map_err(|source| MemoryError::Map { bytes, source })?;
        advise_huge_pages(&mapping).map_err(MemoryError::Advise)?;
        let region = GuestRegionMmap::new(mapping, GuestAddress(start))
            .expect("a range ends below 2^64: the configuration bounds memory");
        memory =
            memory.insert_region(region.into()).map_err(|source| MemoryError::Place { start, source })?;
        offset += bytes;
    }
    Ok(memory)
}

/// A file in memory whose size is fixed: whoever maps it too could otherwise cut it short, and our next access would
/// end us.
fn memory_file(bytes: u64) -> io::Result<File> {
    let file = memfd_create("guest-memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, bytes)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(file.into())
}

/// Maps `bytes` at an address that is a multiple of [`HUGE_PAGE_BYTES`]. Linux does so by itself from 6.7 on.
fn map_aligned(bytes: u64) -> Result<MmapRegion, MemoryError> {
    let length = usize::try_from(bytes).expect("x86-64 addresses fit usize");
    let failed = |source| MemoryError::Map { bytes, source };
    let mapping = MmapRegion::new(length).map_err(failed)?;
    if mapping.as_ptr().addr().is_multiple_of(HUGE_PAGE_BYTES) {
        return Ok(mapping);
    }
    drop(mapping);
    align_within_larger(length).map_err(failed)
}

/// Maps more than needed and uses the aligned part, which has no owner that could unmap it: a machine's memory
/// lives as long as its process.
fn align_within_larger(length: usize) -> Result<MmapRegion, MmapRegionError> {
    let larger = MmapRegion::new(length + HUGE_PAGE_BYTES)?;
    let skipped = larger.as_ptr().align_offset(HUGE_PAGE_BYTES);
    // SAFETY: `skipped` is below HUGE_PAGE_BYTES, so the result and `length` bytes after it lie in `larger`.
    let start = unsafe { larger.as_ptr().add(skipped) };
    let (protection, flags) = (larger.prot(), larger.flags());
    std::mem::forget(larger);
    // SAFETY: the range lies in a mapping with these attributes, which is never unmapped: it was forgotten.
    unsafe { MmapRegion::build_raw(start, length, protection, flags) }
}

fn advise_huge_pages(mapping: &MmapRegion) -> io::Result<()> {
    // SAFETY: the range is exactly one mapping of ours, and this advice changes no contents.
    match unsafe { madvise(mapping.as_ptr().cast(), mapping.size(), Advice::LinuxHugepage) } {
        // A kernel built without transparent huge pages; small ones work too.
        Ok(()) | Err(rustix::io::Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestMemoryBackend, VolatileMemory};

    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn ram_leaves_the_devices_gap_free() {
        assert_eq!(ram_ranges(GIB), [(0, GIB)]);
        assert_eq!(ram_ranges(3 * GIB), [(0, 3 * GIB)]);
        assert_eq!(ram_ranges(5 * GIB), [(0, 3 * GIB), (4 * GIB, 2 * GIB)]);
    }

    #[test]
    fn memory_is_aligned_on_hosts_that_do_not_see_to_it() {
        let length = 3 << 20;
        let mapping = align_within_larger(length).unwrap();
        assert!(mapping.as_ptr().addr().is_multiple_of(HUGE_PAGE_BYTES));
        for offset in [0, length - 8] {
            mapping.get_ref(offset).unwrap().store(7u64);
            assert_eq!(mapping.get_ref::<u64>(offset).unwrap().load(), 7);
        }
    }

    #[test]
    fn shareable_memory_is_one_file_that_nobody_can_cut() {
        let memory = allocate_shareable(3 * GIB + (16 << 20)).unwrap();
        let starts: Vec<u64> = memory.iter().map(|region| region.file_offset().unwrap().start()).collect();
        assert_eq!(starts, [0, 3 * GIB]);
        memory.write_obj(7u64, GuestAddress(4 * GIB + 8)).unwrap();
        let file = memory.iter().next().unwrap().file_offset().unwrap().file();
        let mut bytes = [0; 8];
        std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, 3 * GIB + 8).unwrap();
        assert_eq!(bytes, 7u64.to_le_bytes());
        assert!(file.set_len(0).is_err() && file.set_len(8 * GIB).is_err());
    }

    #[test]
    fn large_memory_is_reserved_and_not_allocated() {
        let memory = allocate(64 * GIB).unwrap();
        assert_eq!(memory.num_regions(), 2);
        for region in memory.iter() {
            assert!(region.as_ptr().addr().is_multiple_of(HUGE_PAGE_BYTES));
        }
        memory.write_obj(7u64, GuestAddress(40 * GIB)).unwrap();
        assert!(memory.write_obj(7u64, GuestAddress(layout::VIRTIO_START)).is_err());
    }
}
