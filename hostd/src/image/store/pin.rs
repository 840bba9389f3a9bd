//! Pins: layers that a load in progress relies on stay, whatever is removed meanwhile.

use super::ImageStore;
use crate::image::digest::Digest;

/// Keeps layers from being swept for as long as it lives.
pub(super) struct Pins {
    store: ImageStore,
    layers: Vec<Digest>,
}

impl ImageStore {
    pub(super) fn pin(&self, layers: impl IntoIterator<Item = Digest>) -> Pins {
        let layers: Vec<_> = layers.into_iter().collect();
        let mut pinned = self.lock_pinned();
        for layer in &layers {
            *pinned.entry(*layer).or_default() += 1;
        }
        Pins { store: self.clone(), layers }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut pinned = self.store.lock_pinned();
        for layer in &self.layers {
            let count = pinned.get_mut(layer).expect("it was counted when it was pinned");
            *count -= 1;
            if *count == 0 {
                pinned.remove(layer);
            }
        }
    }
}
