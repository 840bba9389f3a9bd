//! Removing all volumes that nobody has.

use super::super::Engine;
use super::super::error::{EngineError, ErrorKind};
use super::super::events::{Actor, EventKind};
use super::VolumeView;

/// What a prune removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrunedVolumes {
    pub names: Vec<String>,
    pub reclaimed_bytes: u64,
}

impl Engine {
    /// Removes all volumes that no container has and that fit.
    ///
    /// # Errors
    /// One that cannot be removed.
    pub async fn prune_volumes(
        &self,
        fits: impl Fn(&VolumeView) -> bool,
    ) -> Result<PrunedVolumes, EngineError> {
        let mut pruned = PrunedVolumes::default();
        for view in self.volumes().into_iter().filter(|view| view.holders.is_empty() && fits(view)) {
            let bytes = self.volume_bytes(&view).await?;
            match self.remove_volume(view.volume.name.as_str()).await {
                Ok(()) => {
                    pruned.names.push(view.volume.name.to_string());
                    pruned.reclaimed_bytes += bytes;
                }
                // Somebody came, or was faster.
                Err(error) if error.kind != ErrorKind::Internal => {}
                Err(error) => return Err(error),
            }
        }
        let reclaimed = ("reclaimed".to_owned(), pruned.reclaimed_bytes.to_string());
        let actor = Actor { id: String::new(), attributes: [reclaimed].into() };
        self.events().publish(EventKind::Volume, "prune", actor);
        Ok(pruned)
    }
}
