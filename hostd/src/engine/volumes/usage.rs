//! What volumes take.

use std::os::unix::fs::MetadataExt;

use super::super::Engine;
use super::super::error::EngineError;
use super::volume::Backing;
use super::{DISK, VolumeUsage, VolumeView, failed, tree};

impl Engine {
    /// All volumes, with the bytes of their files: looks at every one of them.
    ///
    /// # Errors
    /// A volume that cannot be read.
    pub async fn volumes_usage(&self) -> Result<Vec<VolumeUsage>, EngineError> {
        let mut usage = Vec::new();
        for view in self.volumes() {
            let bytes = self.volume_bytes(&view).await?;
            usage.push(VolumeUsage { view, bytes });
        }
        Ok(usage)
    }

    /// What a file system takes of the host's disk, as far as one knows.
    fn disk_bytes(&self, view: &VolumeView) -> u64 {
        let disk = self.shared.volumes.directory(&view.volume.name).join(DISK);
        std::fs::metadata(disk).map_or(0, |metadata| metadata.blocks() * 512)
    }

    /// What would be free if the volume were removed: nothing, if it is only a name for files of the host's.
    pub(super) async fn volume_bytes(&self, view: &VolumeView) -> Result<u64, EngineError> {
        let content = match view.volume.backing {
            Backing::Directory => view.mountpoint.clone(),
            Backing::Limited { .. } => return Ok(self.disk_bytes(view)),
            // Files of the host's own, or none.
            Backing::Bind { .. } | Backing::Memory(_) => return Ok(0),
        };
        let counting = tokio::task::spawn_blocking(move || tree::content_bytes(&content)).await;
        let counted = counting.map_err(std::io::Error::other).flatten();
        match counted {
            // It was removed meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            counted => counted.map_err(|error| failed("measure", &view.volume.name, &error)),
        }
    }
}
