//! What images take: of their users' attention (bytes of files) and of the host's disk (blocks).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::catalog::Catalog;
use super::files::{BYTES_PER_BLOCK, Files, allocated_bytes};
use super::{ImageStore, StoreError};
use crate::image::digest::Digest;
use crate::image::record::ImageId;

/// What all images take together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreUsage {
    pub images: HashMap<ImageId, ImageUsage>,
    /// Bytes of all regular files of all layers, each layer once.
    pub layers_bytes: u64,
    /// Of the host's disk: blobs, layers and disks.
    pub allocated_bytes: u64,
}

/// What one image takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageUsage {
    /// Bytes of the regular files in layers that other images have too.
    pub shared_bytes: u64,
    /// Of the host's disk, what it shares with others included.
    pub allocated_bytes: u64,
    /// Of the host's disk, what would be free if this image went.
    pub reclaimable_bytes: u64,
}

/// A layer of an image, as the database has it.
#[derive(Clone, Debug)]
pub(super) struct LayerUse {
    pub(super) image: ImageId,
    pub(super) diff_id: Digest,
    pub(super) blob: Digest,
    pub(super) content_bytes: u64,
}

impl ImageStore {
    /// Looks at every file of the store.
    ///
    /// # Errors
    /// The database fails. Files that are gone count nothing.
    pub fn usage(&self) -> Result<StoreUsage, StoreError> {
        let (ids, uses) = self.shared.database.with(|tx| {
            let catalog = Catalog(tx);
            Ok::<_, StoreError>((catalog.ids()?, catalog.layer_uses()?))
        })?;
        Ok(Tally::new(&self.shared.files, &uses).usage(&ids, &uses))
    }

    /// Bytes of the regular files of each of the image's layers, base first; empty if there is no such image.
    ///
    /// # Errors
    /// The database fails.
    pub fn layer_sizes(&self, id: &ImageId) -> Result<Vec<u64>, StoreError> {
        self.shared.database.with(|tx| Catalog(tx).layer_bytes_of(id))
    }
}

/// What of the store belongs to several images.
struct Tally<'a> {
    files: &'a Files,
    /// Images by layer, and by blob.
    layer_users: HashMap<Digest, HashSet<ImageId>>,
    blob_users: HashMap<Digest, HashSet<ImageId>>,
    layer_bytes: HashMap<Digest, u64>,
    blob_bytes: HashMap<Digest, u64>,
}

impl<'a> Tally<'a> {
    fn new(files: &'a Files, uses: &[LayerUse]) -> Self {
        let mut tally = Self {
            files,
            layer_users: HashMap::new(),
            blob_users: HashMap::new(),
            layer_bytes: HashMap::new(),
            blob_bytes: HashMap::new(),
        };
        for LayerUse { image, diff_id, blob, .. } in uses {
            tally.layer_users.entry(*diff_id).or_default().insert(*image);
            tally.blob_users.entry(*blob).or_default().insert(*image);
            let allocated = || allocated_bytes(&files.layer(diff_id).path);
            tally.layer_bytes.entry(*diff_id).or_insert_with(allocated);
            tally.blob_bytes.entry(*blob).or_insert_with(|| file_bytes(&files.blob(blob)));
        }
        tally
    }

    fn usage(&self, ids: &HashSet<ImageId>, uses: &[LayerUse]) -> StoreUsage {
        let mut usage = StoreUsage::default();
        let mut seen = HashSet::new();
        for layer in uses.iter().filter(|layer| seen.insert(layer.diff_id)) {
            usage.layers_bytes += layer.content_bytes;
        }
        for id in ids {
            let disk_bytes = file_bytes(&self.files.disk(id));
            let own = uses.iter().filter(|layer| layer.image == *id);
            usage.images.insert(*id, self.image(own, disk_bytes));
            usage.allocated_bytes += disk_bytes;
        }
        usage.allocated_bytes += self.layer_bytes.values().chain(self.blob_bytes.values()).sum::<u64>();
        usage
    }

    fn image<'b>(&self, layers: impl Iterator<Item = &'b LayerUse>, disk_bytes: u64) -> ImageUsage {
        let mut usage =
            ImageUsage { shared_bytes: 0, allocated_bytes: disk_bytes, reclaimable_bytes: disk_bytes };
        let (mut layers_seen, mut blobs_seen) = (HashSet::new(), HashSet::new());
        for layer in layers {
            let shared = self.layer_users[&layer.diff_id].len() > 1;
            if layers_seen.insert(layer.diff_id) {
                let bytes = self.layer_bytes[&layer.diff_id];
                usage.add(bytes, shared);
                usage.shared_bytes += if shared { layer.content_bytes } else { 0 };
            }
            if blobs_seen.insert(layer.blob) {
                usage.add(self.blob_bytes[&layer.blob], self.blob_users[&layer.blob].len() > 1);
            }
        }
        usage
    }
}

impl ImageUsage {
    fn add(&mut self, bytes: u64, shared: bool) {
        self.allocated_bytes += bytes;
        if !shared {
            self.reclaimable_bytes += bytes;
        }
    }
}

fn file_bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.blocks() * BYTES_PER_BLOCK)
}
