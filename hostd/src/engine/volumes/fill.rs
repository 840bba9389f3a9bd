//! The first use of a volume: where it is empty, it takes over what the image has in the place of its mount.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, fstat, openat};

use super::super::error::{EngineError, chain};
use super::super::user_namespace::UserNamespace;
use super::volume::{Backing, Content, Volume};
use super::{ActiveVolume, Volumes, copy, failed, tree};
use crate::image::tree::InodeNumber;
use crate::image::{ImageFiles, ImageId, ImageStore};

impl Volumes {
    /// Fills a volume that is empty, or that a daemon which died had begun to fill, with the image's directory at
    /// `path`; does nothing if the image has none. The volume is given to no machine meanwhile. The caller sees to it that
    /// the image is not removed.
    ///
    /// # Errors
    /// No such volume, no room in it, or an image that cannot be read.
    pub(in crate::engine) async fn fill(
        &self,
        images: &ImageStore,
        name: &str,
        image: ImageId,
        path: &str,
        ids: Option<&UserNamespace>,
    ) -> Result<(), EngineError> {
        let volume = self.find(name)?;
        // In memory, it is gone with the container that it would be filled for; and what is read-only is what it is.
        if matches!(volume.volume.backing, Backing::Memory(_)) || volume.volume.is_read_only() {
            return Ok(());
        }
        let mut content = volume.settled().await?;
        let mounted = self.mount_alone(&volume).await?;
        let source = mounted.source().map_err(|error| failed("open", &volume.volume.name, &error))?;
        let filling = Filling {
            images: images.clone(),
            image,
            path: path.trim_start_matches('/').to_owned(),
            ids: ids.cloned(),
            root: source,
            goes_on: *content == Content::Begun,
        };
        let failed = |error: io::Error| {
            EngineError::internal(&format!("cannot copy the image's {path} into volume {name}"), &error)
        };
        let Some(prepared) = blocking(move || filling.prepare()).await.map_err(failed)? else {
            return Ok(());
        };
        self.note(&volume, Content::Begun).await?;
        *content = Content::Begun;
        blocking(move || prepared.copy()).await.map_err(failed)?;
        self.note(&volume, Content::Whole).await?;
        *content = Content::Whole;
        Ok(())
    }

    /// Gives a volume of ours that is empty, and nobody's yet, to the root of containers whose users are others outside: the
    /// host's own root, who made it, is nobody to them.
    ///
    /// # Errors
    /// No such volume, or the host refuses.
    pub(in crate::engine) async fn give_to_root_of(
        &self,
        name: &str,
        ids: &UserNamespace,
    ) -> Result<(), EngineError> {
        let volume = self.find(name)?;
        if !matches!(volume.volume.backing, Backing::Directory | Backing::Limited { .. }) {
            return Ok(());
        }
        let _settled = volume.settled().await?;
        let mounted = self.mount_alone(&volume).await?;
        let source = mounted.source().map_err(|error| failed("open", &volume.volume.name, &error))?;
        let (uid, gid) = ids.outside(0, 0);
        blocking(move || give(&source, uid, gid)).await.map_err(|error| {
            EngineError::internal(&format!("cannot give volume {name} to its container's root"), &error)
        })
    }

    /// What the record says from here on of the volume's first content.
    async fn note(&self, volume: &ActiveVolume, content: Content) -> Result<(), EngineError> {
        self.records.put(&Volume { content, ..volume.volume.clone() }).await
    }
}

/// A volume that may have to be filled.
struct Filling {
    images: ImageStore,
    image: ImageId,
    path: String,
    ids: Option<UserNamespace>,
    root: OwnedFd,
    /// What another daemon began.
    goes_on: bool,
}

/// One that has to be, and what with.
struct Prepared {
    files: ImageFiles,
    from: InodeNumber,
    root: OwnedFd,
    ids: Option<UserNamespace>,
}

impl Filling {
    /// Nothing if there is nothing to be done.
    fn prepare(self) -> io::Result<Option<Prepared>> {
        let open = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(&self.root, c".", open, Mode::empty())?;
        if !self.goes_on && !tree::is_empty(root.as_fd())? {
            return Ok(None);
        }
        let mut files = self.images.files_of(&self.image).map_err(|error| io::Error::other(chain(&error)))?;
        let from = files.directory(self.path.as_bytes());
        Ok(from.map(|from| Prepared { files, from, root, ids: self.ids }))
    }
}

impl Prepared {
    fn copy(&self) -> io::Result<()> {
        copy::copy(&self.files, self.from, &self.root, self.ids.as_ref())
    }
}

fn give(root: &OwnedFd, uid: u32, gid: u32) -> io::Result<()> {
    let open = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(root, c".", open, Mode::empty())?;
    let found = fstat(&root)?;
    if (found.st_uid, found.st_gid) == (0, 0) && tree::is_empty(root.as_fd())? {
        fchown(&root, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten()
}
