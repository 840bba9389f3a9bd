//! The last step of a load: staged files move into the store, and one transaction makes them exist.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::catalog::{BlobRecord, Catalog, NewImage, NewLayer};
use super::load::Candidate;
use super::stage::StagedLayer;
use super::{ImageStore, StoreError};
use crate::image::digest::Digest;
use crate::image::record::ImageId;

impl ImageStore {
    /// Everything or nothing. Should the transaction fail, the files that moved have no rows, and the next sweep takes
    /// them away.
    pub(super) fn publish(
        &self,
        candidates: &[Candidate],
        staged: &HashMap<Digest, StagedLayer>,
        disks: &HashSet<ImageId>,
        staging: &Path,
    ) -> Result<(), StoreError> {
        let _publication = self.lock_publication();
        let mut known = self.shared.database.with(|tx| Known::read(&Catalog(tx)))?;
        // Pulls may have layers in their places already, and read them.
        known.layers.extend(self.lock_arrived().values().map(|arrived| arrived.blob.diff_id));
        let failed = |source| StoreError::File {
            step: "moving to",
            path: self.shared.files.root().to_owned(),
            source,
        };
        self.move_layers(staged, &known).map_err(failed)?;
        self.move_blobs(candidates, &known).map_err(failed)?;
        self.move_disks(disks, staging).map_err(failed)?;
        self.shared.files.sync_all().map_err(failed)?;
        self.shared.database.with(|tx| {
            let catalog = Catalog(tx);
            for (diff_id, layer) in staged {
                catalog.insert_layer(diff_id, layer.content_bytes)?;
            }
            let mut known_images = known.images;
            for candidate in candidates {
                candidate.insert_blobs(&catalog, &known_images)?;
                if known_images.insert(candidate.id()) {
                    catalog.insert_image(&candidate.new_image())?;
                }
                candidate.archived.documents.iter().try_for_each(|raw| catalog.insert_document(raw))?;
                let target = candidate.archived.documents.first().map(|target| target.digest);
                for name in candidate.references() {
                    catalog.set_name(&name, &candidate.id(), target.as_ref())?;
                }
            }
            Ok(())
        })
    }

    fn move_layers(&self, staged: &HashMap<Digest, StagedLayer>, known: &Known) -> io::Result<()> {
        for (diff_id, layer) in staged {
            let target = self.shared.files.layer(diff_id).path;
            // Another load was faster.
            if known.layers.contains(diff_id) && target.exists() {
                continue;
            }
            if target.exists() {
                fs::remove_dir_all(&target)?;
            }
            fs::rename(&layer.directory.path, &target)?;
        }
        Ok(())
    }

    fn move_blobs(&self, candidates: &[Candidate], known: &Known) -> io::Result<()> {
        for candidate in candidates {
            for blob in &candidate.archived.layers {
                let target = self.shared.files.blob(&blob.digest);
                let wanted = candidate.brings_blobs(&known.images) || known.blobs.contains(&blob.digest);
                if wanted && !target.exists() {
                    File::open(&blob.path)?.sync_all()?;
                    fs::rename(&blob.path, &target)?;
                }
            }
        }
        Ok(())
    }

    fn move_disks(&self, disks: &HashSet<ImageId>, staging: &Path) -> io::Result<()> {
        disks.iter().try_for_each(|id| fs::rename(staging.join(id.0.hex()), self.shared.files.disk(id)))
    }
}

/// What exists at the moment of publication.
struct Known {
    layers: HashSet<Digest>,
    blobs: HashSet<Digest>,
    images: HashSet<ImageId>,
}

impl Known {
    fn read(catalog: &Catalog<'_>) -> Result<Self, StoreError> {
        Ok(Self { layers: catalog.layers()?, blobs: catalog.blobs()?, images: catalog.ids()? })
    }
}

impl Candidate {
    /// An image that is there keeps the blobs it came with, unless a manifest names others: the same layers may be
    /// compressed otherwise now.
    fn brings_blobs(&self, known_images: &HashSet<ImageId>) -> bool {
        !known_images.contains(&self.id()) || !self.archived.documents.is_empty()
    }

    fn insert_blobs(&self, catalog: &Catalog<'_>, known_images: &HashSet<ImageId>) -> Result<(), StoreError> {
        if !self.brings_blobs(known_images) {
            return Ok(());
        }
        self.diff_ids.iter().zip(&self.archived.layers).try_for_each(|(diff_id, blob)| {
            let (digest, size_bytes) = (blob.digest, blob.size_bytes);
            catalog.insert_blob(&BlobRecord { digest, size_bytes, diff_id: *diff_id })
        })
    }

    fn new_image(&self) -> NewImage<'_> {
        let layers = self.diff_ids.iter().zip(&self.archived.layers);
        let layers =
            layers.map(|(diff_id, blob)| NewLayer { diff_id: *diff_id, blob: blob.digest }).collect();
        NewImage { id: self.id(), config: &self.archived.config, layers }
    }
}
