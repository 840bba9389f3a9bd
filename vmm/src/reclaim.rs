//! Takes guest memory back for the host: pages the guest said it does not need are unmapped and read as zeros.
//!
//! How depends on what is behind the pages, see [`Backing`]; a page that is used again simply comes into being again.
//! Whether the guest may give a page away is its driver's business, whether it is RAM is checked here.

#![expect(unsafe_code, reason = "guest memory is unmapped by its host address")]

use std::ffi::c_void;
use std::io;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use vm_memory::bitmap::Bitmap;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

use crate::layout::PAGE_BYTES;
use crate::memory::{GuestMemoryMmap, GuestRegionMmap};

/// Zeros for pages that cannot be unmapped.
static ZEROS: [u8; 4096] = [0; 4096];

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReclaimError {
    #[error("{bytes:#x} bytes at {start:#x} are not whole pages of memory")]
    NotMemory { start: u64, bytes: u64 },
    #[error("the host cannot take back {bytes:#x} bytes at {start:#x}: {source}")]
    Host { start: u64, bytes: u64, source: io::Error },
}

/// What is behind a region of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backing {
    /// Anonymous memory of this process.
    Anonymous,
    /// A file in memory, which other processes map as well: only a hole in the file frees its pages.
    Shared,
    /// A file, such as a snapshot's, of which changed pages are private copies. Dropping a copy would bring the
    /// file's old contents back to life, so fresh anonymous memory takes the place of both.
    PrivateFile,
}

impl Backing {
    fn of(region: &GuestRegionMmap) -> Self {
        let flags = region.flags();
        if flags & libc::MAP_SHARED != 0 {
            Self::Shared
        } else if flags & libc::MAP_ANONYMOUS != 0 {
            Self::Anonymous
        } else {
            Self::PrivateFile
        }
    }
}

/// Gives whole pages of guest memory back to the host.
///
/// # Errors
/// The range is not all RAM, or not made of whole pages: nothing happened. Or the host refuses.
pub(crate) fn take_back(
    memory: &GuestMemoryMmap,
    start: GuestAddress,
    bytes: u64,
) -> Result<(), ReclaimError> {
    let not_memory = || ReclaimError::NotMemory { start: start.0, bytes };
    let whole = start.0.is_multiple_of(PAGE_BYTES) && bytes.is_multiple_of(PAGE_BYTES);
    let length = usize::try_from(bytes).ok().filter(|length| whole && memory.check_range(start, *length));
    let (mut address, mut left) = (start, length.ok_or_else(not_memory)?);
    while left > 0 {
        let (region, offset) = memory.to_region_addr(address).ok_or_else(not_memory)?;
        let rest = usize::try_from(region.len() - offset.raw_value()).map_err(|_| not_memory())?;
        let part = rest.min(left);
        take_back_part(region, offset, part).map_err(|source| ReclaimError::Host {
            start: address.0,
            bytes: part as u64,
            source,
        })?;
        left -= part;
        address = address.unchecked_add(part as u64);
    }
    Ok(())
}

fn take_back_part(region: &GuestRegionMmap, offset: MemoryRegionAddress, length: usize) -> io::Result<()> {
    let start: *mut c_void = region.get_host_address(offset).map_err(io::Error::other)?.cast();
    let advise = |advice| {
        // SAFETY: the range lies in one mapping of guest memory, in whole pages. Nothing in this process holds a
        // reference into that memory; pages that disappear are replaced by zeros when they are touched.
        unsafe { madvise(start, length, advice) }
    };
    match Backing::of(region) {
        Backing::Anonymous => advise(Advice::LinuxDontNeed)?,
        Backing::Shared => advise(Advice::LinuxRemove)?,
        Backing::PrivateFile => replace(region, offset, start, length)?,
    }
    // The next snapshot must know that the page is not what the last one saved.
    if let Ok(offset) = usize::try_from(offset.raw_value()) {
        region.bitmap().mark_dirty(offset, length);
    }
    Ok(())
}

/// Maps anonymous memory in the place of a file's.
fn replace(
    region: &GuestRegionMmap,
    offset: MemoryRegionAddress,
    start: *mut c_void,
    length: usize,
) -> io::Result<()> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: as in `take_back_part`; the new mapping has the old one's place, size and protection.
    match unsafe { mmap_anonymous(start, length, protection, flags) } {
        Ok(_) => Ok(()),
        // A guest that gives back every other page makes more mappings than a process may have. What cannot be
        // unmapped can still be emptied.
        Err(rustix::io::Errno::NOMEM) => fill_with_zeros(region, offset, length),
        Err(error) => Err(error.into()),
    }
}

fn fill_with_zeros(region: &GuestRegionMmap, offset: MemoryRegionAddress, length: usize) -> io::Result<()> {
    (0..length as u64)
        .step_by(ZEROS.len())
        .try_for_each(|page| region.write_slice(&ZEROS, offset.unchecked_add(page)).map_err(io::Error::other))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    use rustix::fs::MemfdFlags;
    use vm_memory::{FileOffset, MmapRegion};

    use super::*;
    use crate::layout::{DEVICE_GAP_END, DEVICE_GAP_START};

    const BYTES: u64 = 16 << 20;

    /// Memory of `BYTES` at 0 with these mapping flags; of a file that is full of sevens, or of no file.
    fn memory(file: Option<File>, flags: i32) -> GuestMemoryMmap {
        let file = file.map(|file| FileOffset::new(file, 0));
        let length = usize::try_from(BYTES).unwrap();
        let mapping = MmapRegion::build(file, length, libc::PROT_READ | libc::PROT_WRITE, flags).unwrap();
        let region = GuestRegionMmap::new(mapping, GuestAddress(0)).unwrap();
        GuestMemoryMmap::new().insert_region(region.into()).unwrap()
    }

    fn sevens(mut file: File) -> File {
        file.write_all(&vec![7; usize::try_from(BYTES).unwrap()]).unwrap();
        file
    }

    /// What of the memory is in the host's RAM, in KiB.
    fn resident_kib(memory: &GuestMemoryMmap) -> u64 {
        let start = memory.get_host_address(GuestAddress(0)).unwrap().addr() as u64;
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let (mut inside, mut total) = (false, 0);
        for line in maps.lines() {
            let range = line.split(' ').next().and_then(|range| range.split_once('-'));
            let number = |text| u64::from_str_radix(text, 16).ok();
            if let Some((Some(from), Some(to))) = range.map(|(from, to)| (number(from), number(to))) {
                inside = from < start + BYTES && to > start;
            } else if let Some(kib) = line.strip_prefix("Rss:").filter(|_| inside) {
                total += kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
            }
        }
        total
    }

    fn check(memory: &GuestMemoryMmap) {
        let half = usize::try_from(BYTES / 2).unwrap();
        memory.write_slice(&vec![1; 2 * half], GuestAddress(0)).unwrap();
        let before = resident_kib(memory);
        (**memory.iter().next().unwrap()).bitmap().start();
        take_back(memory, GuestAddress(BYTES / 4), BYTES / 2).unwrap();
        let after = resident_kib(memory);
        assert!(before >= BYTES >> 10 && after <= before / 2 + 512, "{before} KiB, then {after} KiB");
        let mut bytes = vec![9; half];
        memory.read_slice(&mut bytes, GuestAddress(BYTES / 4)).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0), "what was there must not come back");
        assert_eq!(memory.read_obj::<u8>(GuestAddress(BYTES / 4 - 1)).unwrap(), 1);
        assert_eq!(memory.read_obj::<u8>(GuestAddress(BYTES / 4 * 3)).unwrap(), 1);
        memory.write_obj(5u8, GuestAddress(BYTES / 2)).unwrap();
        assert_eq!(memory.read_obj::<u8>(GuestAddress(BYTES / 2)).unwrap(), 5, "and can be used again");
        let dirty = (**memory.iter().next().unwrap()).bitmap().take().unwrap();
        let pages: u32 = dirty.iter().map(|word| word.count_ones()).sum();
        assert_eq!(u64::from(pages), BYTES / 2 / PAGE_BYTES, "the next snapshot knows");
    }

    #[test]
    fn anonymous_pages_go_back_to_the_host() {
        check(&memory(None, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE));
    }

    #[test]
    fn shared_pages_go_back_to_the_host_for_everybody() {
        let file: OwnedFd = rustix::fs::memfd_create("memory", MemfdFlags::CLOEXEC).unwrap();
        check(&memory(Some(sevens(file.into())), libc::MAP_SHARED | libc::MAP_NORESERVE));
    }

    #[test]
    fn pages_of_a_snapshot_go_back_and_its_old_contents_stay_dead() {
        let file = sevens(tempfile::tempfile().unwrap());
        check(&memory(Some(file), libc::MAP_PRIVATE | libc::MAP_NORESERVE));
    }

    #[test]
    fn pages_that_cannot_be_unmapped_are_emptied() {
        let file = sevens(tempfile::tempfile().unwrap());
        let memory = memory(Some(file), libc::MAP_PRIVATE);
        fill_with_zeros(memory.iter().next().unwrap(), MemoryRegionAddress(4096), 8192).unwrap();
        let mut bytes = [9; 8194];
        memory.read_slice(&mut bytes, GuestAddress(4095)).unwrap();
        assert_eq!((bytes[0], bytes[8193]), (7, 7));
        assert!(bytes[1..8193].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn what_is_no_memory_is_not_taken() {
        let memory = crate::memory::allocate(DEVICE_GAP_START + BYTES).unwrap();
        for (start, bytes) in [
            (DEVICE_GAP_START, PAGE_BYTES),
            (DEVICE_GAP_START - PAGE_BYTES, 2 * PAGE_BYTES),
            (DEVICE_GAP_END + BYTES, PAGE_BYTES),
            (u64::MAX - PAGE_BYTES + 1, PAGE_BYTES),
            (u64::MAX - PAGE_BYTES + 1, 2 * PAGE_BYTES),
            (1, PAGE_BYTES),
            (0, 1),
            (0, u64::MAX),
        ] {
            let result = take_back(&memory, GuestAddress(start), bytes);
            assert!(matches!(result, Err(ReclaimError::NotMemory { .. })), "{start:#x}, {bytes:#x}");
        }
        take_back(&memory, GuestAddress(DEVICE_GAP_END), BYTES).unwrap();
    }
}
