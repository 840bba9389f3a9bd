//! Who has a volume: the containers that name it, whether they run or not. None of theirs can be removed.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::error::EngineError;
use super::super::identity::ContainerId;
use super::{ActiveVolume, VolumeRequest, Volumes};

impl Volumes {
    /// The volume of that name, made if it is not there; it stays for as long as the container holds it.
    ///
    /// # Errors
    /// As [`super::super::Engine::create_volume`].
    pub(in crate::engine) async fn ensure(
        &self,
        request: VolumeRequest,
        holder: &ContainerId,
    ) -> Result<Arc<ActiveVolume>, EngineError> {
        let _turn = self.changes.lock().await;
        let volume = self.find_or_make(request).await?;
        volume.holders().insert(holder.clone());
        Ok(volume)
    }

    /// What a container's record says of a volume that it took before: whether that is still there.
    pub(in crate::engine) fn refer(&self, name: &str, holder: &ContainerId) -> bool {
        // Nobody takes it off as long as one looks.
        let active = self.active();
        let found = active.values().find(|volume| volume.volume.name.as_str() == name);
        found.is_some_and(|volume| {
            volume.holders().insert(holder.clone());
            true
        })
    }

    /// A container that is gone holds nothing any more.
    pub(in crate::engine) fn release(&self, name: &str, holder: &ContainerId) {
        if let Ok(volume) = self.find(name) {
            volume.holders().remove(holder);
        }
    }

    /// What containers see of a volume, and where Docker's users look for it.
    ///
    /// # Errors
    /// No such volume.
    pub(in crate::engine) fn mountpoint(&self, name: &str) -> Result<PathBuf, EngineError> {
        Ok(self.find(name)?.mountpoint.clone())
    }
}
