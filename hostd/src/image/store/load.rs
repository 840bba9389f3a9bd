//! Loading an archive: spool, verify, take layers in, build disks, and only then make everything visible at once.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::Read;
use std::path::Path;

use super::catalog::Catalog;
use super::stage::{MissingLayer, StagedLayer, stage};
use super::{ImageStore, StoreError};
use crate::image::archive::{self, ArchiveError, ArchivedImage};
use crate::image::compression::decompress;
use crate::image::digest::Digest;
use crate::image::disk::{self, DiskFileError};
use crate::image::layer::LayerError;
use crate::image::manifest::Platform;
use crate::image::record::{Configuration, ImageId};
use crate::image::reference::{Reference, Selector};
use crate::image::tar_stream::TarError;

/// How far a load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadProgress {
    /// Of the layer with this diff id, this much of its blob was read.
    Layer { id: Digest, current_bytes: u64, total_bytes: u64 },
}

/// What a load brought, a line for each: by name, or by id if the archive names it not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadedImage {
    /// Familiar, with tag.
    Name(String),
    Id(ImageId),
}

/// Why nothing was loaded. Displays as one whole sentence.
#[derive(Debug, thiserror::Error)]
#[error("{}", sentence(problem))]
pub struct LoadError {
    problem: Problem,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("invalid archive")]
    Archive(#[from] ArchiveError),
    #[error("image {image}: {problem}")]
    Image { image: String, problem: String },
    #[error("image {image}: layer {layer}")]
    Layer { image: String, layer: Digest, source: LayerError },
    #[error("image {image}")]
    Disk { image: String, source: DiskFileError },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LoadError {
    /// Whether the archive is to blame, rather than the store's disk or database.
    #[must_use]
    pub fn is_client_fault(&self) -> bool {
        match &self.problem {
            Problem::Archive(error) => !matches!(error, ArchiveError::Spool { .. }),
            Problem::Image { .. } => true,
            Problem::Layer { source, .. } => source.is_layers_fault(),
            Problem::Disk { source, .. } => {
                matches!(
                    source,
                    DiskFileError::Layer { .. } | DiskFileError::TooLarge | DiskFileError::TooManyFiles
                )
            }
            Problem::Store(_) => false,
        }
    }
}

impl<P: Into<Problem>> From<P> for LoadError {
    fn from(problem: P) -> Self {
        Self { problem: problem.into() }
    }
}

/// An error and its causes, joined: clients see one line.
fn sentence(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string);
    let mut parts: Vec<String> = causes.collect();
    parts.dedup();
    parts.join(": ")
}

/// An image of the archive whose configuration and archive agree.
pub(super) struct Candidate {
    pub(super) archived: ArchivedImage,
    /// For messages: its first name, or its short id.
    shown: String,
    pub(super) diff_ids: Vec<Digest>,
}

impl ImageStore {
    /// Loads every image of an archive (`docker save` or OCI layout, compressed or not), or none.
    ///
    /// # Errors
    /// The archive is not one, is damaged, or does not keep what its digests promise; or the store fails. The store is
    /// then as it was.
    pub fn load(
        &self,
        archive: impl Read,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Vec<LoadedImage>, LoadError> {
        self.load_for(archive, None, progress)
    }

    /// The same for the images of one platform; this host's, if an archive has several and none is asked for.
    ///
    /// # Errors
    /// As [`ImageStore::load`], and when the archive has no image for the platform.
    pub fn load_for(
        &self,
        archive: impl Read,
        platform: Option<&Platform>,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Vec<LoadedImage>, LoadError> {
        let failed =
            |source| StoreError::File { step: "using", path: self.shared.files.root().to_owned(), source };
        let staging = self.shared.files.staging_directory().map_err(failed)?;
        let spool = staging.path().join("spool");
        fs::create_dir(&spool).map_err(failed)?;
        let plain = decompress(archive).map_err(|error| ArchiveError::Tar(TarError::Read(error)))?;
        self.load_images(archive::read(plain, &spool, platform)?, staging.path(), progress)
    }

    /// Takes in images whose files lie on the store's own file system.
    pub(super) fn load_images(
        &self,
        images: Vec<ArchivedImage>,
        staging: &Path,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Vec<LoadedImage>, LoadError> {
        let candidates = images.into_iter().map(check).collect::<Result<Vec<_>, _>>()?;
        let pins = self.pin(candidates.iter().flat_map(|candidate| candidate.diff_ids.iter().copied()));
        let loaded = self.take_in(&candidates, staging, progress);
        drop(pins);
        // What was pinned meanwhile may have lost its last image. The load's own error is the one to tell.
        if loaded.is_err()
            && let Err(error) = self.sweep()
        {
            tracing::warn!(%error, "image store: cannot clear up after a failed load");
        }
        loaded
    }

    fn take_in(
        &self,
        candidates: &[Candidate],
        staging: &Path,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Vec<LoadedImage>, LoadError> {
        let missing = self.missing_layers(candidates)?;
        let staged = stage(&missing, staging, progress)?;
        let disks = self.build_disks(candidates, &staged, staging)?;
        self.publish(candidates, &staged, &disks, staging)?;
        Ok(candidates.iter().flat_map(Candidate::loaded).collect())
    }

    /// The layers that the store does not have, each once.
    fn missing_layers<'a>(&self, candidates: &'a [Candidate]) -> Result<Vec<MissingLayer<'a>>, StoreError> {
        let known = self.shared.database.with(|tx| Catalog(tx).layers())?;
        let mut seen = HashSet::new();
        let mut missing = Vec::new();
        for candidate in candidates {
            for (diff_id, blob) in candidate.diff_ids.iter().zip(&candidate.archived.layers) {
                // A row whose files somebody took away is made good again.
                let present = known.contains(diff_id) && self.shared.files.layer(diff_id).path.exists();
                if !present && seen.insert(*diff_id) {
                    missing.push(MissingLayer { diff_id: *diff_id, blob, image: &candidate.shown });
                }
            }
        }
        Ok(missing)
    }

    /// Builds the disk of each image before anything is visible, so that an image that exists can run at once.
    fn build_disks(
        &self,
        candidates: &[Candidate],
        staged: &HashMap<Digest, StagedLayer>,
        staging: &Path,
    ) -> Result<HashSet<ImageId>, LoadError> {
        let mut built = HashSet::new();
        for candidate in candidates {
            let id = candidate.id();
            if self.shared.files.disk(&id).exists() || !built.insert(id) {
                continue;
            }
            let layers = candidate.diff_ids.iter().map(|diff_id| match staged.get(diff_id) {
                Some(layer) => layer.directory.clone(),
                None => self.shared.files.layer(diff_id),
            });
            let layers: Vec<_> = layers.collect();
            disk::build(id.0, &layers, &staging.join(id.0.hex()))
                .map_err(|source| Problem::Disk { image: candidate.shown.clone(), source })?;
        }
        Ok(built)
    }
}

/// What an image's configuration must say for this archive to be its image.
fn check(archived: ArchivedImage) -> Result<Candidate, LoadError> {
    let shown = archived.names.first().map_or_else(|| archived.id.short(), Reference::familiar);
    let configuration = Configuration::read(&archived.config, archived.layers.len())
        .map_err(|error| Problem::Image { image: shown.clone(), problem: error.to_string() })?;
    let diff_ids = configuration.rootfs.diff_ids;
    Ok(Candidate { archived, shown, diff_ids })
}

impl Candidate {
    pub(super) fn id(&self) -> ImageId {
        ImageId(self.archived.id)
    }

    fn loaded(&self) -> Vec<LoadedImage> {
        let names: Vec<_> =
            self.archived.names.iter().map(|name| LoadedImage::Name(name.familiar())).collect();
        if names.is_empty() { vec![LoadedImage::Id(self.id())] } else { names }
    }

    /// Its names, and with a manifest each repository's digest too.
    pub(super) fn references(&self) -> Vec<Reference> {
        let manifests = self.archived.documents.first().into_iter().flat_map(|target| {
            let selector = Selector::Manifest(target.digest);
            self.archived
                .names
                .iter()
                .map(move |name| Reference { selector: selector.clone(), ..name.clone() })
        });
        self.archived.names.iter().cloned().chain(manifests).collect()
    }
}
