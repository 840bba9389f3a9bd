//! Pins: layers, blobs and manifests that a load, pull, push or save relies on stay, whatever is removed meanwhile.

use super::ImageStore;
use crate::image::digest::Digest;

/// Keeps what it names from being swept for as long as it lives.
#[derive(Debug)]
pub struct Pins {
    store: ImageStore,
    pinned: Vec<Digest>,
}

impl ImageStore {
    /// Pins diff ids, blobs' digests and documents' digests, whether they are here yet or not. To be called before
    /// looking whether they are.
    pub fn pin(&self, digests: impl IntoIterator<Item = Digest>) -> Pins {
        let digests: Vec<_> = digests.into_iter().collect();
        let mut pinned = self.lock_pinned();
        for digest in &digests {
            *pinned.entry(*digest).or_default() += 1;
        }
        Pins { store: self.clone(), pinned: digests }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut pinned = self.store.lock_pinned();
        for digest in &self.pinned {
            let count = pinned.get_mut(digest).expect("it was counted when it was pinned");
            *count -= 1;
            if *count == 0 {
                pinned.remove(digest);
            }
        }
    }
}
