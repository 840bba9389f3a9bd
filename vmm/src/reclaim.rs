//! Takes guest memory back for the host: pages the guest said it does not need are unmapped and read as zeros.
//!
//! How depends on what is behind the pages, see [`Backing`]; a page that is used again simply comes into being again.
//! Whether the guest may give a page away is its driver's business, whether it is RAM is checked here.

#![expect(unsafe_code, reason = "guest memory is unmapped by its host address")]

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::io;
use std::ops::Range;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
use vm_memory::bitmap::Bitmap;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, MemoryRegionAddress};

use crate::layout::PAGE_BYTES;
use crate::memory::{GuestMemoryMmap, GuestRegionMmap};

/// Zeros for pages that cannot be unmapped.
static ZEROS: [u8; 4096] = [0; 4096];

/// A guest that gives back every other page of a file's mapping would make more mappings than a process may have
/// (vm.max_map_count, 65530 by default), and then no thread could be started any more. This many are far from it.
const MAX_EDGES: usize = 16 << 10;

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

/// Takes back the memory of one machine.
#[derive(Debug, Default)]
pub(crate) struct Reclaimer {
    /// By the start of a region that is a private mapping of a file.
    replaced: BTreeMap<u64, Replaced>,
}

impl Reclaimer {
    /// Gives whole pages of guest memory back to the host.
    ///
    /// # Errors
    /// The range is not all RAM, or not made of whole pages: nothing happened. Or the host refuses.
    pub(crate) fn take_back(
        &mut self,
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
            self.take_back_part(region, offset, part).map_err(|source| ReclaimError::Host {
                start: address.0,
                bytes: part as u64,
                source,
            })?;
            left -= part;
            address = address.unchecked_add(part as u64);
        }
        Ok(())
    }

    fn take_back_part(
        &mut self,
        region: &GuestRegionMmap,
        offset: MemoryRegionAddress,
        length: usize,
    ) -> io::Result<()> {
        match Backing::of(region) {
            Backing::Anonymous => advise(region, offset, length, Advice::LinuxDontNeed)?,
            Backing::Shared => advise(region, offset, length, Advice::LinuxRemove)?,
            Backing::PrivateFile => self.replace(region, offset, length)?,
        }
        // The next snapshot must know that the page is not what the last one saved.
        if let Ok(offset) = usize::try_from(offset.raw_value()) {
            region.bitmap().mark_dirty(offset, length);
        }
        Ok(())
    }

    /// Sees to it that there is fresh anonymous memory in the place of a file's.
    fn replace(
        &mut self,
        region: &GuestRegionMmap,
        offset: MemoryRegionAddress,
        length: usize,
    ) -> io::Result<()> {
        let page = |bytes: u64| usize::try_from(bytes / PAGE_BYTES).map_err(io::Error::other);
        let first = page(offset.raw_value())?;
        let pages = first..first + page(length as u64)?;
        let replaced = self
            .replaced
            .entry(region.start_addr().0)
            .or_insert_with(|| Replaced::of(region.len() / PAGE_BYTES));
        if pages.clone().all(|page| replaced.contains(page)) {
            return advise(region, offset, length, Advice::LinuxDontNeed);
        }
        // What would take too many mappings can still be emptied.
        if replaced.edges_with(&pages) > MAX_EDGES || !map_anonymous(region, offset, length)? {
            return fill_with_zeros(region, offset, length);
        }
        replaced.add(&pages);
        Ok(())
    }
}

/// The pages of a region that are anonymous memory instead of a file's.
#[derive(Debug)]
struct Replaced {
    /// A bit each.
    pages: Vec<u64>,
    /// How often, from a page to the next, one kind follows the other: each time a mapping ends.
    edges: usize,
}

impl Replaced {
    fn of(pages: u64) -> Self {
        let words = usize::try_from(pages.div_ceil(64)).expect("x86-64 addresses fit usize");
        Self { pages: vec![0; words], edges: 0 }
    }

    fn contains(&self, page: usize) -> bool {
        self.pages.get(page / 64).is_some_and(|word| word >> (page % 64) & 1 == 1)
    }

    /// The edges there were if these pages were replaced, too.
    fn edges_with(&self, added: &Range<usize>) -> usize {
        let before = |page: usize| page.checked_sub(1).is_some_and(|page| self.contains(page));
        let gone = (added.start..=added.end).filter(|page| before(*page) != self.contains(*page)).count();
        let come = usize::from(!before(added.start)) + usize::from(!self.contains(added.end));
        self.edges - gone + come
    }

    fn add(&mut self, added: &Range<usize>) {
        self.edges = self.edges_with(added);
        added.clone().for_each(|page| self.pages[page / 64] |= 1 << (page % 64));
    }
}

fn advise(
    region: &GuestRegionMmap,
    offset: MemoryRegionAddress,
    length: usize,
    advice: Advice,
) -> io::Result<()> {
    let start: *mut c_void = region.get_host_address(offset).map_err(io::Error::other)?.cast();
    // SAFETY: the range lies in one mapping of guest memory, in whole pages. Nothing in this process holds a reference
    // into that memory; pages that disappear are replaced by zeros when they are touched.
    Ok(unsafe { madvise(start, length, advice) }?)
}

/// Maps anonymous memory in the place of a file's. Says whether there was room for the mapping.
fn map_anonymous(region: &GuestRegionMmap, offset: MemoryRegionAddress, length: usize) -> io::Result<bool> {
    let start: *mut c_void = region.get_host_address(offset).map_err(io::Error::other)?.cast();
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    // SAFETY: as in `advise`; the new mapping has the old one's place, size and protection.
    match unsafe { mmap_anonymous(start, length, protection, flags) } {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::NOMEM) => Ok(false),
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
        Reclaimer::default().take_back(memory, GuestAddress(BYTES / 4), BYTES / 2).unwrap();
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
    fn pages_that_are_anonymous_already_go_back_without_another_mapping() {
        let memory = memory(Some(sevens(tempfile::tempfile().unwrap())), libc::MAP_PRIVATE);
        let mut reclaimer = Reclaimer::default();
        for _ in 0..3 {
            for page in [1, 2, 4] {
                memory.write_obj(9u8, GuestAddress(page * PAGE_BYTES)).unwrap();
                reclaimer.take_back(&memory, GuestAddress(page * PAGE_BYTES), PAGE_BYTES).unwrap();
                assert_eq!(memory.read_obj::<u8>(GuestAddress(page * PAGE_BYTES)).unwrap(), 0);
            }
            assert_eq!(reclaimer.replaced[&0].edges, 4, "pages 1 and 2, and page 4");
        }
        reclaimer.take_back(&memory, GuestAddress(0), 8 * PAGE_BYTES).unwrap();
        assert_eq!(reclaimer.replaced[&0].edges, 2, "as counted: what is before page 0 is no page of ours");
        assert_eq!(memory.read_obj::<u8>(GuestAddress(8 * PAGE_BYTES)).unwrap(), 7);
    }

    #[test]
    fn a_guest_that_gives_back_every_other_page_does_not_use_up_the_mappings() {
        let bytes = (MAX_EDGES as u64 + 200) * PAGE_BYTES;
        let file = tempfile::tempfile().unwrap();
        file.set_len(bytes).unwrap();
        let (protection, length) = (libc::PROT_READ | libc::PROT_WRITE, usize::try_from(bytes).unwrap());
        let mapping =
            MmapRegion::build(Some(FileOffset::new(file, 0)), length, protection, libc::MAP_PRIVATE).unwrap();
        let region = GuestRegionMmap::new(mapping, GuestAddress(0)).unwrap();
        let memory = GuestMemoryMmap::new().insert_region(region.into()).unwrap();
        let mut reclaimer = Reclaimer::default();
        for page in (0..bytes / PAGE_BYTES).step_by(2) {
            let start = GuestAddress(page * PAGE_BYTES);
            memory.write_obj(9u8, start).unwrap();
            reclaimer.take_back(&memory, start, PAGE_BYTES).unwrap();
            assert_eq!(memory.read_obj::<u8>(start).unwrap(), 0);
        }
        assert!(reclaimer.replaced[&0].edges <= MAX_EDGES);
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
            let result = Reclaimer::default().take_back(&memory, GuestAddress(start), bytes);
            assert!(matches!(result, Err(ReclaimError::NotMemory { .. })), "{start:#x}, {bytes:#x}");
        }
        Reclaimer::default().take_back(&memory, GuestAddress(DEVICE_GAP_END), BYTES).unwrap();
    }
}
