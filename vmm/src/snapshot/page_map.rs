//! Which pages of this process have come into being: the kernel's page map (Documentation/admin-guide/mm/pagemap.rst).
//!
//! Opened early: later the process may have no `/proc` any more.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::layout::PAGE_BYTES;

const ENTRY_BYTES: u64 = 8;
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// Entries read in one go.
const BLOCK_ENTRIES: u64 = 8192;

#[derive(Debug)]
pub(crate) struct PageMap(File);

impl PageMap {
    /// # Errors
    /// There is no `/proc` here.
    pub(crate) fn open() -> io::Result<Self> {
        File::open("/proc/self/pagemap").map(Self)
    }

    /// Tells `touched` the number of every page that has content of its own among the `count` pages from host address
    /// `start` on, counted from there.
    ///
    /// # Errors
    /// The kernel does not say.
    pub(crate) fn each_touched(
        &self,
        start: usize,
        count: u64,
        mut touched: impl FnMut(u64),
    ) -> io::Result<()> {
        let first = start as u64 / PAGE_BYTES;
        let mut done = 0;
        let mut block = Vec::new();
        while done < count {
            let entries = (count - done).min(BLOCK_ENTRIES);
            block.resize(usize::try_from(entries * ENTRY_BYTES).expect("at most a block"), 0);
            self.0.read_exact_at(&mut block, (first + done) * ENTRY_BYTES)?;
            for (entry, number) in block.chunks_exact(8).zip(done..) {
                let entry = u64::from_ne_bytes(entry.try_into().expect("eight bytes"));
                if entry & (PRESENT | SWAPPED) != 0 {
                    touched(number);
                }
            }
            done += entries;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

    use super::*;

    #[test]
    fn touched_pages_are_told() {
        let memory = crate::memory::allocate(32 << 20).unwrap();
        memory.write_obj(1u8, GuestAddress(20 << 20)).unwrap();
        let start = memory.get_host_address(GuestAddress(0)).unwrap().addr();
        let mut touched = Vec::new();
        PageMap::open().unwrap().each_touched(start, 8192, |page| touched.push(page)).unwrap();
        assert!(touched.contains(&5120) && touched.len() <= 512, "{touched:?}");
    }
}
