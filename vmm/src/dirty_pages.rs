//! Which pages of guest memory this process has written: what a later snapshot must save again.
//!
//! `vm-memory` tells a [`DirtyPages`] of every write that goes through it; who hands guest memory to the kernel as a
//! buffer tells it itself (see `virtio/chain.rs`). What the guest writes is KVM's dirty log's business. Nothing is
//! recorded, and nothing allocated, before [`DirtyPages::start`].

use std::num::NonZeroUsize;
use std::sync::OnceLock;

use vhost_user_backend::bitmap::BitmapReplace;
use vm_memory::bitmap::{AtomicBitmap, Bitmap, NewBitmap, RefSlice, WithBitmapSlice};

use crate::layout::PAGE_BYTES;

#[expect(clippy::cast_possible_truncation, reason = "a page is 4 KiB")]
const PAGE: NonZeroUsize = NonZeroUsize::new(PAGE_BYTES as usize).expect("pages are not empty");

/// The pages of one region of guest memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct DirtyPages {
    region_bytes: usize,
    recorded: OnceLock<AtomicBitmap>,
}

impl DirtyPages {
    /// From now on writes are recorded.
    pub(crate) fn start(&self) {
        self.recorded.get_or_init(|| AtomicBitmap::new(self.region_bytes, PAGE));
    }

    /// The pages written since the last call, or since the start, as a bit each: the lowest bit of the first word is
    /// the region's first page. `None` before the start.
    pub(crate) fn take(&self) -> Option<Vec<u64>> {
        self.recorded.get().map(AtomicBitmap::get_and_reset)
    }
}

impl Bitmap for DirtyPages {
    fn mark_dirty(&self, offset: usize, length: usize) {
        if let Some(recorded) = self.recorded.get() {
            recorded.mark_dirty(offset, length);
        }
    }

    fn dirty_at(&self, offset: usize) -> bool {
        self.recorded.get().is_some_and(|recorded| recorded.dirty_at(offset))
    }

    fn slice_at(&self, offset: usize) -> RefSlice<'_, Self> {
        RefSlice::new(self, offset)
    }
}

impl<'a> WithBitmapSlice<'a> for DirtyPages {
    type S = RefSlice<'a, Self>;
}

impl NewBitmap for DirtyPages {
    fn with_len(length: usize) -> Self {
        Self { region_bytes: length, recorded: OnceLock::new() }
    }
}

/// The vhost-user crate wants to know where its client keeps a log of its own; we offer it none.
impl BitmapReplace for DirtyPages {
    type InnerBitmap = ();

    fn replace(&self, (): ()) {}
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};

    use crate::memory::GuestMemoryMmap;

    #[test]
    fn writes_are_recorded_from_the_start_on_and_told_once() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 100 << 12)]).unwrap();
        let pages = memory.iter().next().unwrap().bitmap();
        memory.write_obj(1u64, GuestAddress(0)).unwrap();
        assert_eq!(pages.take(), None);
        pages.start();
        memory.write_obj(1u64, GuestAddress(0x1ffc)).unwrap();
        memory.write_slice(&[1; 8192], GuestAddress(70 << 12)).unwrap();
        assert_eq!(pages.take(), Some(vec![0b110, 0b11 << 6]));
        assert_eq!(pages.take(), Some(vec![0, 0]));
        let _: u64 = memory.read_obj(GuestAddress(0)).unwrap();
        assert_eq!(pages.take(), Some(vec![0, 0]));
    }
}
