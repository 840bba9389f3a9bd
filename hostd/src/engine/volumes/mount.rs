//! A volume's root, as a machine is given it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::super::error::EngineError;
use super::volume::{Access, Backing};
use super::{ActiveVolume, Volumes};
use crate::machine::open_source;

/// A volume in use by a run of a container's, until it is dropped.
#[derive(Debug)]
pub(in crate::engine) struct MountedVolume {
    volume: Arc<ActiveVolume>,
    root: OwnedFd,
}

impl MountedVolume {
    /// What a share is made of.
    pub(in crate::engine) fn source(&self) -> io::Result<OwnedFd> {
        self.root.try_clone()
    }

    /// Whether nobody may write to it, whatever a container asks for.
    pub(in crate::engine) fn is_read_only(&self) -> bool {
        matches!(self.volume.volume.backing, Backing::Bind { access: Access::ReadOnly, .. })
    }
}

impl Volumes {
    /// The root of a volume, for a run of a container's.
    ///
    /// # Errors
    /// No such volume, or the host has not what it is a name for.
    pub(in crate::engine) async fn mount(&self, name: &str) -> Result<MountedVolume, EngineError> {
        let volume = self.find(name)?;
        let root = match &volume.volume.backing {
            Backing::Directory => open_source(&volume.mountpoint),
            Backing::Bind { device, .. } => open_source(device),
        };
        let root = root.map_err(|error| not_mounted(&volume, &error))?;
        Ok(MountedVolume { volume, root })
    }
}

/// In Docker's words, where it has some.
fn not_mounted(volume: &ActiveVolume, error: &io::Error) -> EngineError {
    let mountpoint = volume.mountpoint.display();
    let reason = match &volume.volume.backing {
        Backing::Directory => error.to_string(),
        Backing::Bind { device, .. } => {
            format!(
                "failed to mount local volume: mount {}:{mountpoint}, flags: 0x1000: {error}",
                device.display()
            )
        }
    };
    EngineError::internal(&format!("error while mounting volume '{mountpoint}'"), &io::Error::other(reason))
}
