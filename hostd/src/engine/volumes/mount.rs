//! A volume's root, as a machine is given it.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::MutexGuard;
use tokio::time::timeout;

use super::super::error::{EngineError, ErrorKind};
use super::file_system::FileSystem;
use super::volume::{Backing, Content};
use super::{ActiveVolume, DISK, Volumes};
use crate::machine::open_source;

/// How long one waits for a volume that takes over what an image has: hundreds of thousands of files on a slow disk.
const FILL_DEADLINE: Duration = Duration::from_secs(600);

/// A volume in use by a run of a container's, until it is dropped. A volume in memory goes with the last.
#[derive(Debug)]
pub(in crate::engine) struct MountedVolume {
    volume: Arc<ActiveVolume>,
    root: OwnedFd,
    _kept: Option<Arc<FileSystem>>,
}

/// A volume that a machine of an earlier daemon's has, until it is dropped.
#[derive(Debug)]
pub(in crate::engine) struct AdoptedVolume {
    _kept: Option<Arc<FileSystem>>,
}

impl ActiveVolume {
    /// Nobody fills or mounts it as long as the guard lives.
    ///
    /// # Errors
    /// Somebody fills it for too long.
    pub(super) async fn settled(&self) -> Result<MutexGuard<'_, Content>, EngineError> {
        let Ok(content) = timeout(FILL_DEADLINE, self.content.lock()).await else {
            let (name, seconds) = (&self.volume.name, FILL_DEADLINE.as_secs());
            let message = format!("volume {name} was not filled within {seconds} s");
            return Err(EngineError::new(ErrorKind::Internal, message));
        };
        Ok(content)
    }
}

impl MountedVolume {
    /// What the share of one machine is made of.
    pub(in crate::engine) fn source(&self) -> io::Result<OwnedFd> {
        self.root.try_clone()
    }

    #[cfg(test)]
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// Whether nobody may write to it, whatever a container asks for.
    pub(in crate::engine) fn is_read_only(&self) -> bool {
        self.volume.volume.is_read_only()
    }
}

impl Volumes {
    /// The root of a volume, for one run of a container's; waits while the volume is filled.
    ///
    /// # Errors
    /// No such volume, or the host has not what it is a name for.
    pub(in crate::engine) async fn mount(&self, name: &str) -> Result<MountedVolume, EngineError> {
        let volume = self.find(name)?;
        let _filled = volume.settled().await?;
        self.mount_alone(&volume).await
    }

    /// Says that a machine which was taken over has the volume.
    pub(in crate::engine) fn adopt(&self, name: &str) -> AdoptedVolume {
        let volume =
            self.find(name).ok().filter(|volume| matches!(volume.volume.backing, Backing::Memory(_)));
        let kept = volume.map(|volume| {
            let mut known = volume.file_system.lock().unwrap_or_else(PoisonError::into_inner);
            known.upgrade().unwrap_or_else(|| {
                let earlier = Arc::new(FileSystem::of_earlier_daemon());
                *known = Arc::downgrade(&earlier);
                earlier
            })
        });
        AdoptedVolume { _kept: kept }
    }

    /// The same for who holds `content`.
    pub(super) async fn mount_alone(&self, volume: &Arc<ActiveVolume>) -> Result<MountedVolume, EngineError> {
        let failed = |error: io::Error| not_mounted(volume, &error);
        let (root, kept) = match &volume.volume.backing {
            Backing::Directory => (open_source(&volume.mountpoint), None),
            Backing::Bind { device, .. } => (open_source(device), None),
            Backing::Limited { .. } | Backing::Memory(_) => {
                let file_system = self.file_system(volume).await.map_err(failed)?;
                let root =
                    file_system.root().await.map_err(failed)?.ok_or_else(|| of_earlier_daemon(volume))?;
                (Ok(root), Some(file_system))
            }
        };
        Ok(MountedVolume { volume: Arc::clone(volume), root: root.map_err(failed)?, _kept: kept })
    }

    /// The one file system of the volume, mounted if it is not. The caller holds `content`.
    async fn file_system(&self, volume: &ActiveVolume) -> io::Result<Arc<FileSystem>> {
        let known = volume.file_system.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        if let Some(known) = known {
            return Ok(known);
        }
        let place = volume.mountpoint.clone();
        let opened = match &volume.volume.backing {
            Backing::Memory(options) => FileSystem::of_memory(options, place).await?,
            _ => FileSystem::of_file(self.directory(&volume.volume.name).join(DISK), place).await?,
        };
        let opened = Arc::new(opened);
        *volume.file_system.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&opened);
        Ok(opened)
    }
}

fn of_earlier_daemon(volume: &ActiveVolume) -> EngineError {
    let message = format!(
        "volume {} is in the memory of containers that an earlier daemon started: stop them to have it anew",
        volume.volume.name
    );
    EngineError::new(ErrorKind::Conflict, message)
}

/// In Docker's words, where it has some.
fn not_mounted(volume: &ActiveVolume, error: &io::Error) -> EngineError {
    let mountpoint = volume.mountpoint.display();
    let reason = match &volume.volume.backing {
        Backing::Bind { device, .. } => {
            format!(
                "failed to mount local volume: mount {}:{mountpoint}, flags: 0x1000: {error}",
                device.display()
            )
        }
        _ => error.to_string(),
    };
    EngineError::internal(&format!("error while mounting volume '{mountpoint}'"), &io::Error::other(reason))
}
