//! The last step of a load: staged files move into the store, and one transaction makes them exist.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::catalog::{Catalog, NewImage, NewLayer};
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
        let (known_layers, known_images) = self.shared.database.with(|tx| {
            let catalog = Catalog(tx);
            Ok::<_, StoreError>((catalog.layers()?, catalog.ids()?))
        })?;
        self.move_files(candidates, staged, disks, staging, &known_layers).map_err(|source| {
            StoreError::File { step: "publishing to", path: self.shared.files.root().to_owned(), source }
        })?;
        self.shared.database.with(|tx| {
            let catalog = Catalog(tx);
            for (diff_id, layer) in staged {
                catalog.insert_layer(diff_id, layer.content_bytes)?;
            }
            let mut known_images = known_images;
            for candidate in candidates {
                if known_images.insert(candidate.id()) {
                    catalog.insert_image(&candidate.new_image())?;
                }
                for name in candidate.references() {
                    catalog.set_name(&name, &candidate.id())?;
                }
            }
            Ok(())
        })
    }

    fn move_files(
        &self,
        candidates: &[Candidate],
        staged: &HashMap<Digest, StagedLayer>,
        disks: &HashSet<ImageId>,
        staging: &Path,
        known_layers: &HashSet<Digest>,
    ) -> io::Result<()> {
        let files = &self.shared.files;
        for (diff_id, layer) in staged {
            let target = files.layer(diff_id).path;
            // Another load was faster.
            if known_layers.contains(diff_id) && target.exists() {
                continue;
            }
            if target.exists() {
                fs::remove_dir_all(&target)?;
            }
            fs::rename(&layer.directory.path, &target)?;
        }
        for blob in candidates.iter().flat_map(|candidate| &candidate.archived.layers) {
            let target = files.blob(&blob.digest);
            if !target.exists() {
                File::open(&blob.path)?.sync_all()?;
                fs::rename(&blob.path, &target)?;
            }
        }
        for id in disks {
            fs::rename(staging.join(id.0.hex()), files.disk(id))?;
        }
        files.sync_all()
    }
}

impl Candidate {
    fn new_image(&self) -> NewImage<'_> {
        let layers = self.diff_ids.iter().zip(&self.archived.layers);
        let layers =
            layers.map(|(diff_id, blob)| NewLayer { diff_id: *diff_id, blob: blob.digest }).collect();
        NewImage { id: self.id(), config: &self.archived.config, layers }
    }
}
