//! What a daemon does first: the directories of the volumes that its records name, and records of those that have none.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::super::error::EngineError;
use super::create::make_files;
use super::remove::REMOVED;
use super::volume::{Backing, Content};
use super::{CONTENT, DISK, Volume, VolumeName, Volumes, tree};

impl Volumes {
    /// Before any container is taken over.
    ///
    /// # Errors
    /// The database or the volumes' directory.
    pub(in crate::engine) async fn recover(
        self: &Arc<Self>,
        records: Vec<Volume>,
    ) -> Result<(), EngineError> {
        let failed = |error: io::Error| EngineError::internal("cannot look for volumes", &error);
        let volumes = Arc::clone(self);
        let known = records.clone();
        let looking = tokio::task::spawn_blocking(move || {
            for volume in &known {
                // It is told again when somebody mounts it.
                if let Err(error) = make_files(&volumes.directory(&volume.name), &volume.backing) {
                    tracing::warn!(volume = %volume.name, %error, "a volume's files cannot be made");
                }
            }
            unrecorded(&volumes.root, &known.into_iter().map(|volume| volume.name).collect())
        });
        let found = looking.await.map_err(io::Error::other).flatten().map_err(failed)?;
        for volume in &found {
            tracing::warn!(volume = %volume.name, "a directory without a record is taken for a volume");
            self.records.put(volume).await?;
        }
        for volume in records.into_iter().chain(found) {
            self.activate(volume);
        }
        self.delete_removed();
        Ok(())
    }

    /// Goes on with what a removal has begun. Nobody waits for it.
    fn delete_removed(&self) {
        let root = self.root.clone();
        let deleting = move || {
            for path in removed(&root) {
                if let Err(error) = tree::remove(&path) {
                    tracing::warn!(path = %path.display(), %error, "cannot delete what a volume left");
                }
            }
        };
        drop(tokio::task::spawn_blocking(deleting));
    }
}

/// Files are dearer than records: volumes outlive a database that was lost, and a removal that did not get to its end.
fn unrecorded(root: &Path, known: &BTreeSet<VolumeName>) -> io::Result<Vec<Volume>> {
    fs::create_dir_all(root)?;
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_str().and_then(|name| VolumeName::parse(name).ok());
        let Some(name) = name.filter(|name| !known.contains(name)) else { continue };
        let Ok(metadata) = fs::symlink_metadata(entry.path().join(CONTENT)) else { continue };
        if metadata.is_dir() {
            let created_at = metadata.created().ok().and_then(|time| Timestamp::try_from(time).ok());
            found.push(Volume {
                name,
                created_at: created_at.unwrap_or_else(Timestamp::now),
                labels: [].into(),
                options: [].into(),
                backing: backing_of(&entry.path()),
                content: Content::Whole,
            });
        }
    }
    Ok(found)
}

fn backing_of(directory: &Path) -> Backing {
    match fs::symlink_metadata(directory.join(DISK)) {
        Ok(metadata) if metadata.is_file() => Backing::Limited { size_bytes: metadata.len() },
        _ => Backing::Directory,
    }
}

fn removed(root: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let is_removed =
        |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(REMOVED.as_bytes());
    entries.flatten().filter(is_removed).map(|entry| entry.path()).collect()
}
