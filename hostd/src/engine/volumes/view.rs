//! How volumes are shown.

use std::path::PathBuf;

use super::super::Engine;
use super::super::error::EngineError;
use super::super::identity::ContainerId;
use super::{ActiveVolume, Volume};

/// A volume at one moment, with who has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeView {
    pub volume: Volume,
    /// Where its files are on the host, if the volume is a directory there.
    pub mountpoint: PathBuf,
    pub holders: Vec<ContainerId>,
}

/// A volume and what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeUsage {
    pub view: VolumeView,
    /// Of its files together.
    pub bytes: u64,
}

impl Engine {
    /// # Errors
    /// No such volume.
    pub fn volume(&self, name: &str) -> Result<VolumeView, EngineError> {
        Ok(self.shared.volumes.find(name)?.view())
    }

    /// All of them, by their names.
    #[must_use]
    pub fn volumes(&self) -> Vec<VolumeView> {
        self.shared.volumes.active().values().map(|active| active.view()).collect()
    }
}

impl ActiveVolume {
    pub(super) fn view(&self) -> VolumeView {
        VolumeView {
            volume: self.volume.clone(),
            mountpoint: self.mountpoint.clone(),
            holders: self.holders().iter().cloned().collect(),
        }
    }
}
