//! The image store: verified images on disk and in the database.
//!
//! ```text
//! <root>/blobs/sha256/<hex>            a layer as it arrived, compressed or not
//! <root>/layers/sha256-<hex>/          data and index of a layer, by diff id
//! <root>/disks/sha256-<hex>.erofs      metadata of an image's disk, by image id
//! <root>/tmp/                          everything that is not finished; emptied at start
//! ```
//!
//! A row in the database makes a thing exist: files are complete and durable before their row is committed, and rows
//! are gone before their files are. What a crash leaves without a row is removed at the next start.

mod arrive;
mod catalog;
mod check;
mod commit;
mod documents;
mod files;
mod import;
mod load;
mod pin;
mod platform;
mod publish;
mod pushed;
mod remove;
mod save;
mod stage;
mod tag;
mod usage;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::digest::Digest;
use super::disk::{self, DiskFileError, ImageDisk, ImageFiles};
use super::manifest::Platform;
use super::record::{Image, ImageId};
use super::reference::{InvalidReference, Reference, Selector};
use crate::database::Database;
use arrive::ArrivedLayer;
use catalog::Catalog;
use files::Files;

pub(crate) use arrive::{ArrivalError, ArrivingImage, LayerSource, Presence};
pub use check::{CheckReport, Damage, Part};
pub(crate) use commit::{CommitError, CommitSpec, LayerSpool};
pub use documents::StoredBlob;
pub use import::ImportSpec;
pub use load::{LoadError, LoadProgress, LoadedImage};
pub use pin::Pins;
pub use remove::{ImageUsers, Removal, RemoveError, Removed};
pub use save::{SaveError, Saving};
pub use tag::TagError;
pub use usage::{ImageUsage, StoreUsage};

/// The images of one data root. Clones share it; every method may block for long.
#[derive(Clone, Debug)]
pub struct ImageStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    files: Files,
    database: Database,
    /// Held while files and rows change together.
    publication: Mutex<()>,
    /// What loads and pulls in progress rely on, and how many of them: no removal takes these away.
    pinned: Mutex<HashMap<Digest, usize>>,
    /// Layers that are in their places and wait for their image, by their blobs.
    arrived: Mutex<HashMap<Digest, ArrivedLayer>>,
}

/// Why the store did not open.
#[derive(Debug, thiserror::Error)]
#[error("image store {}", root.display())]
pub struct OpenError {
    root: PathBuf,
    source: StoreError,
}

/// The store's own disk or database failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("image store: {step} {}", path.display())]
    File { step: &'static str, path: PathBuf, source: io::Error },
    #[error("image store: database")]
    Database(#[from] rusqlite::Error),
    #[error("image store: the record of {id} is unreadable: {problem}")]
    Record { id: String, problem: String },
}

/// Why a reference leads to no image; worded as Docker words it.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error(transparent)]
    Invalid(#[from] InvalidReference),
    #[error("No such image: {reference}")]
    NotFound { reference: String },
    #[error(
        "image with reference {image} was found but does not provide the specified platform ({platform})"
    )]
    Platform { image: String, platform: Platform },
    #[error("image id prefix {reference} is ambiguous")]
    Ambiguous { reference: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an image has no disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("No such image: {0}")]
    NoSuchImage(ImageId),
    #[error(transparent)]
    Disk(#[from] DiskFileError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<rusqlite::Error> for ResolveError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Store(error.into())
    }
}

impl ImageStore {
    /// Opens or creates the store in `root`, and removes what a crash may have left unfinished.
    ///
    /// # Errors
    /// The directory or the database cannot be used.
    pub fn open(root: &Path, database: Database) -> Result<Self, OpenError> {
        let failed = |source| OpenError { root: root.to_owned(), source };
        let files = Files::open(root).map_err(failed)?;
        let shared = Shared {
            files,
            database,
            publication: Mutex::new(()),
            pinned: Mutex::default(),
            arrived: Mutex::default(),
        };
        let store = Self { shared: Arc::new(shared) };
        store.record_blobs().map_err(failed)?;
        store.sweep().map_err(failed)?;
        Ok(store)
    }

    /// Finds an image by name, `name:tag`, `name@digest`, id, or a unique beginning of its id.
    ///
    /// # Errors
    /// The text is no reference, or leads to no image or to several.
    pub fn resolve(&self, reference: &str) -> Result<Image, ResolveError> {
        self.shared.database.with(|tx| Ok(find(&Catalog(tx), reference)?.0))
    }

    /// All images, newest first.
    ///
    /// # Errors
    /// The database fails.
    pub fn list(&self) -> Result<Vec<Image>, StoreError> {
        let mut images = self.shared.database.with(|tx| Catalog(tx).images())?;
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
        Ok(images)
    }

    /// The image's disk. Loading builds it; if it is missing all the same, it is built here.
    ///
    /// # Errors
    /// There is no such image, or its layers' files cannot be used.
    pub fn disk(&self, id: &ImageId) -> Result<ImageDisk, DiskError> {
        let files = &self.shared.files;
        let layers = self.shared.database.with(|tx| Catalog(tx).layers_of(id))?;
        let layers: Vec<_> =
            layers.ok_or(DiskError::NoSuchImage(*id))?.iter().map(|id| files.layer(id)).collect();
        let path = files.disk(id);
        if !path.exists() {
            let failed = |source| DiskFileError::File { path: path.clone(), source };
            let staging = files.staging_directory().map_err(failed)?;
            let staged = staging.path().join("disk");
            disk::build(id.0, &layers, &staged)?;
            let _publication = self.lock_publication();
            std::fs::rename(&staged, &path).map_err(failed)?;
            files.sync_disks().map_err(failed)?;
        }
        Ok(ImageDisk::open(&path, &layers)?)
    }

    /// The image's files, for the host to read. The caller sees to it that the image is not removed meanwhile.
    ///
    /// # Errors
    /// There is no such image, or its layers' files cannot be used.
    pub(crate) fn files_of(&self, id: &ImageId) -> Result<ImageFiles, DiskError> {
        let layers = self.shared.database.with(|tx| Catalog(tx).layers_of(id))?;
        let layers = layers.ok_or(DiskError::NoSuchImage(*id))?;
        let layers: Vec<_> = layers.iter().map(|id| self.shared.files.layer(id)).collect();
        Ok(ImageFiles::open(&layers)?)
    }

    fn lock_publication(&self) -> MutexGuard<'_, ()> {
        // It guards no data of its own: after a panic the database still tells what exists.
        self.shared.publication.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_arrived(&self) -> MutexGuard<'_, HashMap<Digest, ArrivedLayer>> {
        self.shared.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_pinned(&self) -> MutexGuard<'_, HashMap<Digest, usize>> {
        self.shared.pinned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a reference found its image.
enum Matched {
    Name(Reference),
    Id,
}

fn find(catalog: &Catalog<'_>, text: &str) -> Result<(Image, Matched), ResolveError> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let is_id_prefix = !digits.is_empty() && digits.len() <= 64 && digits.bytes().all(is_lower_hex);
    let reference = Reference::parse(text);
    if let Ok(reference) = &reference
        && let Some(id) = by_name(catalog, reference)?
    {
        return Ok((catalog.image(&id)?, Matched::Name(reference.clone())));
    }
    if is_id_prefix {
        let mut ids = catalog.ids_beginning_with(digits)?;
        return match (ids.pop(), ids.is_empty()) {
            (Some(id), true) => Ok((catalog.image(&id)?, Matched::Id)),
            (Some(_), false) => Err(ResolveError::Ambiguous { reference: text.to_owned() }),
            (None, _) => {
                let shown = reference.map_or_else(|_| text.to_owned(), |reference| reference.familiar());
                Err(ResolveError::NotFound { reference: shown })
            }
        };
    }
    Err(ResolveError::NotFound { reference: reference?.familiar() })
}

fn by_name(catalog: &Catalog<'_>, reference: &Reference) -> Result<Option<ImageId>, StoreError> {
    match &reference.selector {
        Selector::Tag(tag) => catalog.tagged(&reference.repository, tag),
        Selector::Manifest(digest) => catalog.by_manifest(&reference.repository, digest),
    }
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests;
