//! Sets of pages of guest RAM, numbered as they lie in a memory file: RAM without the devices' gap.

use serde::{Deserialize, Serialize};
use vm_memory::GuestAddress;

use crate::layout::PAGE_BYTES;
use crate::memory::ram_ranges;

/// Runs that are this many pages apart or less become one: a mapping costs more than a few pages.
const NEGLIGIBLE_GAP_PAGES: u64 = 8;

/// Pages one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PageRun {
    pub(crate) first: u64,
    pub(crate) count: u64,
}

impl PageRun {
    /// The first page behind the run; `None` if there is no such number.
    pub(crate) fn end(&self) -> Option<u64> {
        self.first.checked_add(self.count)
    }

    pub(crate) fn start_bytes(&self) -> u64 {
        self.first * PAGE_BYTES
    }

    pub(crate) fn length_bytes(&self) -> u64 {
        self.count * PAGE_BYTES
    }
}

/// Any pages of a RAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageSet {
    words: Vec<u64>,
    count: u64,
}

impl PageSet {
    /// No page of a RAM of `memory_bytes`.
    pub(crate) fn empty(memory_bytes: u64) -> Self {
        let count = memory_bytes / PAGE_BYTES;
        let words = usize::try_from(count.div_ceil(64)).expect("x86-64 addresses fit usize");
        Self { words: vec![0; words], count }
    }

    /// Adds the pages whose bits are set in `bits`, of which the first is page `first`, a multiple of 64.
    pub(crate) fn insert_bits(&mut self, first: u64, bits: &[u64]) {
        let start = usize::try_from(first / 64).unwrap_or(usize::MAX);
        let words = self.words.get_mut(start..).unwrap_or_default();
        words.iter_mut().zip(bits).for_each(|(word, bits)| *word |= bits);
    }

    /// The set as few runs, in ascending order. May hold a few pages more than the set, between two of its pages.
    pub(crate) fn joined_runs(&self) -> Vec<PageRun> {
        let mut joined: Vec<PageRun> = Vec::new();
        for run in self.runs() {
            match joined.last_mut() {
                Some(last) if run.first - (last.first + last.count) <= NEGLIGIBLE_GAP_PAGES => {
                    last.count = run.first + run.count - last.first;
                }
                _ => joined.push(run),
            }
        }
        joined
    }

    /// The set as runs, in ascending order.
    pub(crate) fn runs(&self) -> Vec<PageRun> {
        let mut runs: Vec<PageRun> = Vec::new();
        let mut page = 0;
        while let Some(first) = self.next(page, true) {
            let end = self.next(first, false).unwrap_or(self.count);
            runs.push(PageRun { first, count: end - first });
            page = end;
        }
        runs
    }

    /// The first page from `page` on that is in the set, or is not.
    fn next(&self, page: u64, wanted: bool) -> Option<u64> {
        let mut at = page;
        while at < self.count {
            let word = self.words[usize::try_from(at / 64).ok()?];
            let candidates = (if wanted { word } else { !word }) & (u64::MAX << (at % 64));
            if candidates != 0 {
                let found = at / 64 * 64 + u64::from(candidates.trailing_zeros());
                return (found < self.count).then_some(found);
            }
            at = (at / 64 + 1) * 64;
        }
        None
    }
}

/// Where the bytes of a memory file from `offset_bytes` on lie in the guest, and how many follow there without a gap.
pub(crate) fn guest_address(memory_bytes: u64, offset_bytes: u64) -> Option<(GuestAddress, u64)> {
    let mut before = 0;
    for (start, bytes) in ram_ranges(memory_bytes) {
        if offset_bytes < before + bytes {
            let within = offset_bytes - before;
            return Some((GuestAddress(start + within), bytes - within));
        }
        before += bytes;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pages: &[u64]) -> PageSet {
        let mut set = PageSet::empty(1000 * PAGE_BYTES);
        pages.iter().for_each(|page| set.insert_bits(page / 64 * 64, &[1 << (page % 64)]));
        set
    }

    fn run(first: u64, count: u64) -> PageRun {
        PageRun { first, count }
    }

    #[test]
    fn runs_are_found_across_words_and_up_to_the_end() {
        assert_eq!(set(&[]).runs(), []);
        assert_eq!(
            set(&[0, 62, 63, 64, 65, 200, 999]).runs(),
            [run(0, 1), run(62, 4), run(200, 1), run(999, 1)]
        );
        let mut full = set(&[]);
        full.insert_bits(0, &[u64::MAX; 20]);
        assert_eq!(full.runs(), [run(0, 1000)], "nothing beyond the end");
        assert_eq!(set(&[1000, u64::MAX]).runs(), []);
    }

    #[test]
    fn runs_that_nearly_touch_become_one() {
        assert_eq!(set(&[10, 19, 28, 38]).joined_runs(), [run(10, 19), run(38, 1)]);
    }

    #[test]
    fn bits_land_where_their_region_lies() {
        let mut pages = set(&[1]);
        pages.insert_bits(128, &[1 << 3, 1]);
        assert_eq!(pages.runs(), [run(1, 1), run(131, 1), run(192, 1)]);
        pages.insert_bits(u64::MAX / 64 * 64, &[1]);
        assert_eq!(pages.runs().len(), 3);
    }

    #[test]
    fn a_memory_file_has_no_gap() {
        let gib = 1 << 30;
        assert_eq!(guest_address(5 * gib, gib), Some((GuestAddress(gib), 2 * gib)));
        assert_eq!(guest_address(5 * gib, 3 * gib), Some((GuestAddress(4 * gib), 2 * gib)));
        assert_eq!(guest_address(5 * gib, 5 * gib), None);
    }
}
