//! Taking an image in that arrives piece by piece: each layer from a stream of its own, and at last the image, its
//! manifests and its names at once.
//!
//! A layer whose blob, data and index are verified is in its place before its image exists, so that others find it: a
//! pull beside this one, or the next one if this one fails. Only with its image does it get rows and survive the daemon:
//! one transaction and one look at each directory for all layers, because the disk's acknowledgements are what takes
//! time. Whoever takes layers in pins them first, or a sweep takes them away again.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use bytes::Bytes;

use super::catalog::{BlobRecord, Catalog, NewImage, NewLayer};
use super::{ImageStore, StoreError};
use crate::image::digest::Digest;
use crate::image::disk::{self, DiskFileError};
use crate::image::layer::{Blob, Intake, IntakeProgress, LayerError};
use crate::image::manifest::{Manifest, Platform, RawDocument};
use crate::image::record::{Configuration, ImageId, InvalidConfiguration};
use crate::image::reference::Reference;

/// A layer as manifest and configuration describe it together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LayerSource {
    pub(crate) blob: Digest,
    /// Of the blob.
    pub(crate) size_bytes: u64,
    pub(crate) diff_id: Digest,
}

/// A layer without rows: its files are complete and durable, their names are not yet.
#[derive(Debug)]
pub(super) struct ArrivedLayer {
    pub(super) blob: BlobRecord,
    content_bytes: u64,
}

/// What of a layer is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presence {
    Whole,
    /// The layer's data and index are missing, or another version's: they can be made of the blob.
    Blob,
    Nothing,
}

/// An image whose manifest and configuration agree.
#[derive(Clone, Debug)]
pub(crate) struct ArrivingImage {
    pub(crate) id: ImageId,
    config: Bytes,
    /// Base first.
    pub(crate) layers: Vec<LayerSource>,
    pub(crate) platform: Platform,
}

/// Why a layer or an image did not come into the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArrivalError {
    #[error("layer {layer}")]
    Layer { layer: Digest, source: LayerError },
    #[error(transparent)]
    Disk(#[from] DiskFileError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for ArrivalError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl ArrivalError {
    /// Whether what arrived is to blame, rather than the store's disk or database.
    pub(crate) fn is_senders_fault(&self) -> bool {
        match self {
            Self::Layer { source, .. } => source.is_layers_fault(),
            Self::Disk(error) => matches!(error, DiskFileError::Layer { .. } | DiskFileError::TooLarge),
            Self::Store(_) => false,
        }
    }
}

impl ArrivingImage {
    /// Checks the configuration against the manifest that names it. That its digest is the one named is the caller's to
    /// have checked.
    pub(crate) fn new(manifest: &Manifest, config: Bytes) -> Result<Self, InvalidConfiguration> {
        let configuration = Configuration::read(&config, manifest.layers.len())?;
        let layers = manifest.layers.iter().zip(configuration.rootfs.diff_ids);
        let layers = layers.map(|(layer, diff_id)| LayerSource {
            blob: layer.digest,
            size_bytes: layer.size_bytes,
            diff_id,
        });
        let platform = Platform {
            os: configuration.os,
            architecture: configuration.architecture,
            variant: configuration.variant.unwrap_or_default(),
        };
        Ok(Self { id: ImageId(manifest.config.digest), config, layers: layers.collect(), platform })
    }

    /// One that was made here.
    pub(super) fn made(config: Vec<u8>, layers: Vec<LayerSource>, platform: Platform) -> Self {
        Self { id: ImageId(Digest::of(&config)), config: config.into(), layers, platform }
    }

    /// Everything that must not be swept while the image arrives.
    pub(crate) fn digests(&self) -> impl Iterator<Item = Digest> {
        self.layers.iter().flat_map(|layer| [layer.blob, layer.diff_id])
    }
}

impl ImageStore {
    /// What of a layer is here. A blob that is here and turns out to be another layer, or to have another size, is the
    /// error that fetching it would end with.
    pub(crate) fn presence(&self, layer: &LayerSource) -> Result<Presence, ArrivalError> {
        let arrived = self.lock_arrived().get(&layer.blob).map(|arrived| arrived.blob);
        let known = match arrived {
            Some(arrived) => Some(arrived),
            None => self.shared.database.with(|tx| Catalog(tx).blob(&layer.blob))?,
        };
        let Some(known) = known else { return Ok(Presence::Nothing) };
        let wrong = |source| ArrivalError::Layer { layer: layer.blob, source };
        if known.diff_id != layer.diff_id {
            return Err(wrong(LayerError::DiffId { actual: known.diff_id }));
        }
        if known.size_bytes != layer.size_bytes {
            let (expected, actual) = (layer.size_bytes, known.size_bytes);
            return Err(wrong(LayerError::BlobSize { expected, actual }));
        }
        let files = &self.shared.files;
        Ok(match (files.blob(&layer.blob).exists(), files.layer(&layer.diff_id).path.exists()) {
            (true, true) => Presence::Whole,
            (true, false) => Presence::Blob,
            (false, _) => Presence::Nothing,
        })
    }

    /// Takes a layer in from its blob's bytes.
    ///
    /// # Errors
    /// `source` fails or is not what it should be, or the disk or the database fails; nothing of it is left then.
    pub(crate) fn take_in_layer(
        &self,
        layer: &LayerSource,
        source: impl Read + Send,
        progress: &(dyn Fn(IntakeProgress) + Sync),
    ) -> Result<(), ArrivalError> {
        let staging = self.staging()?;
        let path = staging.path().join(BLOB);
        let blob = Blob { digest: layer.blob, size_bytes: layer.size_bytes, path: &path };
        let content_bytes = intake(layer, Some(blob), staging.path(), source, progress)?;
        self.place_layer(layer, staging.path(), content_bytes)
    }

    /// Makes a layer's data and index of its blob, which is here.
    ///
    /// # Errors
    /// The blob is not what it was when it came, or the disk or the database fails.
    pub(crate) fn unpack_again(&self, layer: &LayerSource) -> Result<(), ArrivalError> {
        let staging = self.staging()?;
        let path = self.shared.files.blob(&layer.blob);
        let blob = File::open(&path).map_err(|source| StoreError::File {
            step: "reading",
            path: path.clone(),
            source,
        })?;
        let content_bytes = intake(layer, None, staging.path(), blob, &|_| ())?;
        self.place_layer(layer, staging.path(), content_bytes)
    }

    pub(super) fn staging(&self) -> Result<tempfile::TempDir, StoreError> {
        let files = &self.shared.files;
        let failed = |source| StoreError::File { step: "using", path: files.root().to_owned(), source };
        files.staging_directory().map_err(failed)
    }

    pub(super) fn place_layer(
        &self,
        layer: &LayerSource,
        staging: &Path,
        content_bytes: u64,
    ) -> Result<(), ArrivalError> {
        let _publication = self.lock_publication();
        let LayerSource { blob: digest, size_bytes, diff_id } = *layer;
        let has_arrived = self.lock_arrived().values().any(|arrived| arrived.blob.diff_id == diff_id);
        let known = has_arrived || self.shared.database.with(|tx| Catalog(tx).layers())?.contains(&diff_id);
        self.move_layer(layer, staging, known).map_err(|source| StoreError::File {
            step: "moving to",
            path: self.shared.files.root().to_owned(),
            source,
        })?;
        let blob = BlobRecord { digest, size_bytes, diff_id };
        self.lock_arrived().insert(digest, ArrivedLayer { blob, content_bytes });
        Ok(())
    }

    /// A layer that others use already keeps its files: they may be open.
    fn move_layer(&self, layer: &LayerSource, staging: &Path, known: bool) -> io::Result<()> {
        let files = &self.shared.files;
        let target = files.layer(&layer.diff_id).path;
        if !(known && target.exists()) {
            if target.exists() {
                fs::remove_dir_all(&target)?;
            }
            fs::rename(staging.join(LAYER), &target)?;
        }
        match fs::rename(staging.join(BLOB), files.blob(&layer.blob)) {
            // It is made of a blob that lies in its place.
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes an image exist whose layers are here: its disk, its manifests and its names. `documents` lead to it, the
    /// first is what the names stand for. Returns whether the first name led elsewhere before, or nowhere.
    ///
    /// # Errors
    /// A layer does not fit onto those below, or the disk or the database fails.
    pub(crate) fn publish_image(
        &self,
        image: &ArrivingImage,
        documents: &[RawDocument],
        names: &[Reference],
    ) -> Result<bool, ArrivalError> {
        let files = &self.shared.files;
        let staging = self.staging()?;
        let (staged, target) = (staging.path().join("disk"), files.disk(&image.id));
        if !target.exists() {
            let layers: Vec<_> = image.layers.iter().map(|layer| files.layer(&layer.diff_id)).collect();
            disk::build(image.id.0, &layers, &staged)?;
        }
        let _publication = self.lock_publication();
        let mut arrived = self.lock_arrived();
        let failed = |source| StoreError::File { step: "moving to", path: files.root().to_owned(), source };
        if staged.exists() {
            fs::rename(&staged, &target).map_err(failed)?;
        }
        files.sync_all().map_err(failed)?;
        let updated = self.shared.database.with(|tx| {
            let catalog = Catalog(tx);
            for layer in image.layers.iter().filter_map(|layer| arrived.get(&layer.blob)) {
                catalog.insert_layer(&layer.blob.diff_id, layer.content_bytes)?;
                catalog.insert_blob(&layer.blob)?;
            }
            if !catalog.has_image(&image.id)? {
                catalog.insert_image(&image.new_image())?;
            }
            documents.iter().try_for_each(|raw| catalog.insert_document(raw))?;
            let before = names.first().map(|name| super::by_name(&catalog, name)).transpose()?;
            let target = documents.first().map(|target| target.digest);
            names.iter().try_for_each(|name| catalog.set_name(name, &image.id, target.as_ref()))?;
            Ok::<_, ArrivalError>(before.flatten() != Some(image.id))
        })?;
        for layer in &image.layers {
            arrived.remove(&layer.blob);
        }
        Ok(updated)
    }

    /// Takes away what an arrival has left that did not succeed.
    ///
    /// # Errors
    /// The store's disk or database fails.
    pub(crate) fn collect_garbage(&self) -> Result<(), StoreError> {
        self.sweep().map(drop)
    }
}

/// Where in a staging directory the layer's own directory and its blob are.
pub(super) const LAYER: &str = "layer";
pub(super) const BLOB: &str = "blob";

fn intake(
    layer: &LayerSource,
    blob: Option<Blob<'_>>,
    staging: &Path,
    source: impl Read + Send,
    progress: &(dyn Fn(IntakeProgress) + Sync),
) -> Result<u64, ArrivalError> {
    let directory = staging.join(LAYER);
    let failed = |source| ArrivalError::Layer { layer: layer.blob, source };
    fs::create_dir(&directory)
        .map_err(|source| failed(LayerError::Write { path: directory.clone(), source }))?;
    let intake = Intake { blob, diff_id: layer.diff_id, directory: &directory };
    Ok(intake.run(source, progress).map_err(failed)?.content_bytes)
}

impl ArrivingImage {
    fn new_image(&self) -> NewImage<'_> {
        let layers = self.layers.iter();
        let layers = layers.map(|layer| NewLayer { diff_id: layer.diff_id, blob: layer.blob }).collect();
        NewImage { id: self.id, config: &self.config, layers }
    }
}
