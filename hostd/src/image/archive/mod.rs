//! Image archives: what `docker save`, `buildx`, `skopeo` and `podman` write, as one stream of bytes.
//!
//! The order of an archive's entries is anybody's, so its files are first spooled to disk under numbers, each hashed
//! on the way; then the documents say which of them are configurations and layers. Names in the archive never become
//! names on the host.

mod docker;
mod oci;
mod spool;
pub(crate) mod write;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::digest::Digest;
use super::manifest::{MAX_DOCUMENT_BYTES, MAX_LAYERS, ManifestError, Platform, RawDocument};
use super::reference::{InvalidReference, Reference};
use super::tar_stream::TarError;
use spool::Spool;

/// All documents of an archive together, each counted as often as it is referred to.
const MAX_DOCUMENTS_BYTES: u64 = 64 << 20;
/// Images in one archive.
const MAX_IMAGES: usize = 1024;

/// One image of an archive; what it says of itself is not believed yet.
#[derive(Clone, Debug)]
pub(crate) struct ArchivedImage {
    /// The configuration as it stands, and its digest, which is the image's id.
    pub(crate) config: Vec<u8>,
    pub(crate) id: Digest,
    pub(crate) names: Vec<Reference>,
    /// In OCI archives: the documents that lead to it, from what its names stand for (an index, or its manifest) to its
    /// manifest.
    pub(crate) documents: Vec<RawDocument>,
    /// Base first.
    pub(crate) layers: Vec<SpooledFile>,
}

/// A file of the archive, on the host's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SpooledFile {
    pub(crate) path: PathBuf,
    pub(crate) digest: Digest,
    pub(crate) size_bytes: u64,
}

/// Why an archive holds no images that can be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error("archive entry {path:?}: {problem}")]
    Entry { path: String, problem: &'static str },
    #[error("archive entry {path:?}: its digest is {actual}")]
    Digest { path: String, actual: Digest },
    #[error("archive entry {path:?}, which {referrer:?} names, is missing")]
    Missing { path: String, referrer: String },
    #[error("archive entry {path:?}: {source}")]
    Document { path: String, source: serde_json::Error },
    #[error("archive entry {path:?}: {source}")]
    Manifest { path: String, source: ManifestError },
    #[error("image name {name:?}: {source}")]
    Name { name: String, source: InvalidReference },
    #[error("archive: {0}")]
    Contents(String),
    #[error("spooling the archive to {}", path.display())]
    Spool { path: PathBuf, source: io::Error },
}

/// Spools the archive into `directory`, which must be empty, and finds its images.
///
/// With `wanted`, only those for that platform.
pub(crate) fn read(
    archive: impl Read,
    directory: &Path,
    wanted: Option<&Platform>,
) -> Result<Vec<ArchivedImage>, ArchiveError> {
    let spool = Spool::fill(archive, directory)?;
    // Archives that carry both are described by Docker's list completely; OCI's may leave names out.
    let images = if spool.has(docker::MANIFEST) {
        let mut images = docker::images(&spool)?;
        if let Some(wanted) = wanted {
            images.retain(|image| image.is_for(wanted));
            check_platform(&images, wanted)?;
        }
        if spool.has(oci::INDEX) { oci::with_documents(&spool, images)? } else { images }
    } else if spool.has(oci::INDEX) {
        oci::images(&spool, wanted.unwrap_or(&Platform::host()))?
    } else {
        let found = "neither manifest.json (docker save) nor index.json (OCI image layout) is in it";
        return Err(ArchiveError::Contents(found.to_owned()));
    };
    if images.is_empty() {
        return Err(ArchiveError::Contents("there is no image in it".to_owned()));
    }
    Ok(images)
}

fn check_platform(images: &[ArchivedImage], wanted: &Platform) -> Result<(), ArchiveError> {
    match images {
        [] => Err(ArchiveError::Contents(format!("there is no image for {wanted} in it"))),
        _ => Ok(()),
    }
}

impl ArchivedImage {
    /// Whether its configuration says that it is made for that platform.
    fn is_for(&self, wanted: &Platform) -> bool {
        self.platform().is_some_and(|offered| wanted.distance_to(&offered).is_some())
    }

    /// The platform that its configuration names.
    fn platform(&self) -> Option<Platform> {
        serde_json::from_slice(&self.config).ok()
    }
}

/// Called with the length of a list before it is gone through.
fn check_layers(referrer: &str, layers: usize) -> Result<(), ArchiveError> {
    if layers > MAX_LAYERS {
        return Err(ArchiveError::Entry { path: referrer.to_owned(), problem: "more than 512 layers" });
    }
    Ok(())
}

fn parse_name(name: &str) -> Result<Reference, ArchiveError> {
    Reference::parse(name)
        .map_err(|source| ArchiveError::Name { name: name.chars().take(256).collect(), source })
}
