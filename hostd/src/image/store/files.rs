//! The store's files: where each lies, and how one comes and goes whole.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::StoreError;
use crate::image::digest::Digest;
use crate::image::disk::LayerDirectory;
use crate::image::record::ImageId;

const BLOBS: &str = "blobs/sha256";
const LAYERS: &str = "layers";
const DISKS: &str = "disks";
const STAGING: &str = "tmp";
const DIRECTORY_MODE: u32 = 0o711;
/// In which stat(2) counts, whatever the file system's own.
pub(super) const BYTES_PER_BLOCK: u64 = 512;
/// Directory names carry the algorithm, so that another one could be added beside it.
const LAYER_PREFIX: &str = "sha256-";
/// The writer's version is in the name: disks that an older daemon wrote differently are made anew.
const DISK_SUFFIX: &str = ".v2.erofs";

#[derive(Debug)]
pub(super) struct Files {
    root: PathBuf,
}

impl Files {
    /// Creates the directories and empties the staging area.
    pub(super) fn open(root: &Path) -> Result<Self, StoreError> {
        let files = Self { root: root.to_owned() };
        let staging = root.join(STAGING);
        match fs::remove_dir_all(&staging) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::File { step: "emptying", path: staging, source });
            }
            _ => {}
        }
        for directory in [BLOBS, LAYERS, DISKS, STAGING] {
            let path = root.join(directory);
            // Images are their tenants': other users of the host can list nothing.
            let created = fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(&path);
            created.map_err(|source| StoreError::File { step: "creating", path, source })?;
        }
        Ok(files)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A directory for what is not finished; gone with the value, or at the next start.
    pub(super) fn staging_directory(&self) -> io::Result<TempDir> {
        TempDir::new_in(self.root.join(STAGING))
    }

    pub(super) fn layer(&self, diff_id: &Digest) -> LayerDirectory {
        let path = self.root.join(LAYERS).join(format!("{LAYER_PREFIX}{}", diff_id.hex()));
        LayerDirectory { diff_id: *diff_id, path }
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join(BLOBS).join(digest.hex())
    }

    pub(super) fn disk(&self, id: &ImageId) -> PathBuf {
        self.root.join(DISKS).join(format!("{LAYER_PREFIX}{}{DISK_SUFFIX}", id.0.hex()))
    }

    pub(super) fn sync_disks(&self) -> io::Result<()> {
        sync_directory(&self.root.join(DISKS))
    }

    /// Makes every rename so far survive a power cut.
    pub(super) fn sync_all(&self) -> io::Result<()> {
        [BLOBS, LAYERS, DISKS].iter().try_for_each(|directory| sync_directory(&self.root.join(directory)))
    }

    /// Moves every layer, blob and disk that is not among these out of sight, into a directory that goes with the
    /// value returned.
    pub(super) fn discard_except(
        &self,
        layers: &HashSet<Digest>,
        blobs: &HashSet<Digest>,
        images: &HashSet<ImageId>,
    ) -> Result<Option<TempDir>, StoreError> {
        let layers: HashSet<_> = layers.iter().map(|id| self.layer(id).path).collect();
        let blobs: HashSet<_> = blobs.iter().map(|digest| self.blob(digest)).collect();
        let disks: HashSet<_> = images.iter().map(|id| self.disk(id)).collect();
        let mut unknown = Vec::new();
        for (directory, known) in [(LAYERS, layers), (BLOBS, blobs), (DISKS, disks)] {
            let paths = list(&self.root.join(directory))?;
            unknown.extend(paths.into_iter().filter(|path| !known.contains(path)));
        }
        if unknown.is_empty() {
            return Ok(None);
        }
        let failed =
            |path: &Path, source| StoreError::File { step: "removing", path: path.to_owned(), source };
        let trash = self.staging_directory().map_err(|source| failed(&self.root, source))?;
        for (number, path) in unknown.iter().enumerate() {
            fs::rename(path, trash.path().join(number.to_string())).map_err(|source| failed(path, source))?;
        }
        Ok(Some(trash))
    }
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries =
        fs::read_dir(directory).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    entries.map_err(|source| StoreError::File { step: "listing", path: directory.to_owned(), source })
}

/// What the files below `directory` take of the host's disk; what cannot be read counts nothing.
pub(super) fn allocated_bytes(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let bytes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => allocated_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * BYTES_PER_BLOCK,
        Err(_) => 0,
    });
    bytes.sum()
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
