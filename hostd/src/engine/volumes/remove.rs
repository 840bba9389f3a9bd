//! Removing volumes that nobody has.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::Engine;
use super::super::error::EngineError;
use super::{ActiveVolume, Volumes, failed, tree};

/// What a directory is called while it is being deleted; no volume's name begins like this.
pub(super) const REMOVED: &str = ".removed-";

impl Engine {
    /// # Errors
    /// No such volume, or one that containers have.
    pub async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let engine = self.clone();
        let name = name.to_owned();
        let removing = tokio::spawn(async move { engine.shared.volumes.remove(&name).await });
        removing.await.map_err(|error| EngineError::internal("cannot remove volume", &error))?
    }
}

impl Volumes {
    /// Deletes a volume and all that is in it.
    ///
    /// # Errors
    /// No such volume, or one that containers have.
    pub(in crate::engine) async fn remove(&self, name: &str) -> Result<(), EngineError> {
        let turn = self.changes.lock().await;
        let removed = self.take_off(name)?;
        let trash = match self.forget(&removed).await {
            Ok(trash) => trash,
            Err(error) => {
                self.active_mut().insert(removed.volume.name.clone(), removed);
                return Err(error);
            }
        };
        self.publish("destroy", &removed.volume.name, []);
        // The name is free; what was in it may take its time.
        drop(turn);
        let deleted = tokio::task::spawn_blocking(move || tree::remove(&trash)).await;
        let deleted = deleted.map_err(io::Error::other).flatten();
        deleted.map_err(|error| failed("delete the files of", &removed.volume.name, &error))
    }

    /// From here on nobody can take it.
    fn take_off(&self, name: &str) -> Result<Arc<ActiveVolume>, EngineError> {
        let found = self.find(name)?;
        let mut active = self.active_mut();
        let holders = found.holders();
        if !holders.is_empty() {
            let ids: Vec<&str> = holders.iter().map(super::super::identity::ContainerId::as_str).collect();
            let message = format!("remove {name}: volume is in use - [{}]", ids.join(", "));
            return Err(EngineError::conflict(message));
        }
        active.remove(&found.volume.name);
        drop(holders);
        Ok(found)
    }

    /// Record first: a directory that has none is a volume again at the next start, with all that is in it.
    async fn forget(&self, removed: &ActiveVolume) -> Result<PathBuf, EngineError> {
        let volume = &removed.volume;
        self.records.delete(volume.name.as_str()).await?;
        let (root, directory) = (self.root.clone(), self.directory(&volume.name));
        let moving = tokio::task::spawn_blocking(move || move_away(&root, &directory)).await;
        match moving.map_err(io::Error::other).flatten() {
            Ok(trash) => Ok(trash),
            Err(error) => {
                if let Err(error) = self.records.put(volume).await {
                    tracing::warn!(volume = %volume.name, %error, "cannot record a volume that was not removed");
                }
                Err(failed("remove", &volume.name, &error))
            }
        }
    }
}

fn move_away(root: &Path, directory: &Path) -> io::Result<PathBuf> {
    let trash = root.join(format!("{REMOVED}{:016x}", rand::random::<u64>()));
    fs::rename(directory, &trash)?;
    File::open(root)?.sync_all()?;
    Ok(trash)
}
