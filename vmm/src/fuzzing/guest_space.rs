//! Guest memory that knows which of its bytes a device may change, and tells when it changed others, or changed any
//! without a note for the next snapshot.

use std::collections::HashSet;
use std::ops::Range;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

use crate::layout::PAGE_BYTES;
use crate::memory::GuestMemoryMmap;

/// Two regions that touch and, behind a gap, a third: accesses cross the border, and end at the gap.
const REGIONS: [Range<u64>; 3] = [0..0x1_8000, 0x1_8000..0x2_8000, 0x10_0000..0x10_8000];
const BYTES: usize = 0x2_8000 + 0x8000;

/// Where buffers are; the queues lie below.
pub(super) const BUFFERS: Range<u64> = 0x1_0000..0x2_8000;
/// Addresses at which something ends, or that wrap.
pub(super) const EDGES: [u64; 8] =
    [0x1_7ff0, 0x2_7ff8, 0x2_8000, 0xf_fff8, 0x10_0000, 0x10_7ff0, u64::MAX - 7, !0xfff];

#[derive(Default)]
pub(super) struct GuestSpace {
    pub(super) memory: GuestMemoryMmap,
    /// What its bytes are if the device keeps to its buffers.
    expected: Vec<u8>,
    /// Addresses and lengths; they may lie outside of memory.
    may_change: HashSet<(u64, u64)>,
    /// What its bytes were when the device began to work.
    before: Vec<u8>,
    /// The device was told to overwrite what says where it may write: it may write anywhere.
    is_lawless: bool,
    /// The device is one whose driver may name any address, so that it may always write anywhere.
    is_always_lawless: bool,
}

impl GuestSpace {
    /// The address of memory's last page.
    pub(super) const LAST_PAGE: u64 = REGIONS[2].end - PAGE_BYTES;

    pub(super) fn zeroed() -> Self {
        let regions = REGIONS.map(|region| {
            let bytes = usize::try_from(region.end - region.start).expect("regions are small");
            (GuestAddress(region.start), bytes)
        });
        let memory = GuestMemoryMmap::from_ranges(&regions).expect("regions are disjoint");
        memory.iter().for_each(|region| region.bitmap().start());
        Self { memory, expected: vec![0; BYTES], before: vec![0; BYTES], ..Self::default() }
    }

    /// Zeros everywhere, as after a restart.
    pub(super) fn clear(&mut self) {
        self.expected.fill(0);
        self.may_change.clear();
        self.is_lawless = self.is_always_lawless;
        for region in REGIONS {
            let zeros = &self.expected[flat(&region)];
            self.memory.write_slice(zeros, GuestAddress(region.start)).expect("a region is there");
        }
    }

    /// The driver's write: as much of it as there is memory.
    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) {
        for (part, range) in parts(address, bytes.len() as u64) {
            let bytes = &bytes[part];
            self.memory.write_slice(bytes, GuestAddress(range.start)).expect("it lies in a region");
            self.expected[flat(&range)].copy_from_slice(bytes);
        }
    }

    /// The driver's look at memory; where there is none are zeros.
    pub(super) fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        for (part, range) in parts(address, length as u64) {
            let into = &mut bytes[part];
            self.memory.read_slice(into, GuestAddress(range.start)).expect("it lies in a region");
        }
        bytes
    }

    pub(super) fn read_u16(&self, address: u64) -> u16 {
        let bytes = self.read(address, 2);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    /// The device may write here from now on.
    pub(super) fn allow(&mut self, address: u64, length: u64) {
        self.may_change.insert((address, length));
    }

    /// Whether the device may write into this range.
    pub(super) fn allows(&self, address: u64, length: u64) -> bool {
        let overlaps = |(start, bytes): &(u64, u64)| {
            *start < address.saturating_add(length) && address < start.saturating_add(*bytes)
        };
        self.may_change.iter().any(overlaps)
    }

    pub(super) fn set_always_lawless(&mut self, always: bool) {
        (self.is_lawless, self.is_always_lawless) = (always, always);
    }

    pub(super) fn allow_everything(&mut self) {
        self.is_lawless = true;
    }

    /// From now on the device works.
    pub(super) fn begin_work(&mut self) {
        for region in REGIONS {
            let into = &mut self.before[flat(&region)];
            self.memory.read_slice(into, GuestAddress(region.start)).expect("a region is there");
        }
        self.memory.iter().for_each(|region| drop(region.bitmap().take()));
    }

    /// # Panics
    /// A page changed since the work began, and the next snapshot would not know.
    pub(super) fn end_work(&self) {
        for (region, place) in self.memory.iter().zip(REGIONS) {
            let noted = region.bitmap().take().expect("recording was started");
            let now = self.read(place.start, flat(&place).len());
            let page_bytes = usize::try_from(PAGE_BYTES).expect("4 KiB");
            let pages = now.chunks(page_bytes).zip(self.before[flat(&place)].chunks(page_bytes));
            for (page, (now, before)) in pages.enumerate() {
                let is_noted = noted[page / 64] >> (page % 64) & 1 == 1;
                assert!(is_noted || now == before, "page {page} behind {:#x} changed unnoted", place.start);
            }
        }
    }

    /// # Panics
    /// A byte changed that the device was not to touch.
    pub(super) fn check(&self) {
        if self.is_lawless {
            return;
        }
        let mut expected = self.expected.clone();
        for (address, length) in &self.may_change {
            for (_, range) in parts(*address, *length) {
                let found = self.read(range.start, flat(&range).len());
                expected[flat(&range)].copy_from_slice(&found);
            }
        }
        for region in REGIONS {
            let found = self.read(region.start, flat(&region).len());
            let pairs = found.iter().zip(&expected[flat(&region)]);
            if found != expected[flat(&region)] {
                let position = pairs.into_iter().position(|(found, expected)| found != expected);
                panic!("a write where no buffer is, {position:#x?} bytes behind {:#x}", region.start);
            }
        }
    }
}

/// Where a range of addresses inside one region is in the flat arrays.
fn flat(range: &Range<u64>) -> Range<usize> {
    let skipped = if range.start < REGIONS[1].end { 0 } else { REGIONS[2].start - REGIONS[1].end };
    let index = |address: u64| usize::try_from(address - skipped).expect("below BYTES");
    index(range.start)..index(range.end)
}

/// The parts of a range that lie in memory: where in the range, and at which addresses.
fn parts(address: u64, length: u64) -> impl Iterator<Item = (Range<usize>, Range<u64>)> {
    let end = address.saturating_add(length);
    REGIONS.into_iter().filter_map(move |region| {
        let range = address.max(region.start)..end.min(region.end);
        let index = |at: u64| usize::try_from(at - address).expect("regions are small");
        (range.start < range.end).then(|| (index(range.start)..index(range.end), range.clone()))
    })
}
