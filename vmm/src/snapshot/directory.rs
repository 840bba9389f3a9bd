//! A snapshot's directory: files that appear whole or not at all.
//!
//! In the jail there are no directories, only files that were handed over under their paths: whoever did that makes
//! links and gives files their final names. See `host_files`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags};

use crate::host_files::{Access, HOST_FILES};

/// The files in it.
pub(crate) mod names {
    /// The header and the state. Written last.
    pub(crate) const STATE: &str = "snapshot";
    /// All of RAM.
    pub(crate) const MEMORY: &str = "memory";
    /// Pages of RAM that are newer than [`MEMORY`], which a machine's later snapshots share.
    pub(crate) const CHANGES: &str = "changes";
    pub(crate) const WORKING_SET: &str = "working-set";
}

#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub(crate) struct DirectoryError {
    path: PathBuf,
    source: io::Error,
}

impl DirectoryError {
    /// Whether it is only that the file is not for us.
    pub(super) fn is_refusal(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }
}

/// A directory that files can be put into.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// `None` in the jail.
    descriptor: Option<OwnedFd>,
}

/// Opens a snapshot's file; only a missing one is `None`.
///
/// # Errors
/// It is no regular file, not ours to read, or was not handed over.
pub(crate) fn open_file(directory: &Path, name: &str) -> Result<Option<File>, DirectoryError> {
    let path = directory.join(name);
    let failed = |source| DirectoryError { path: path.clone(), source };
    let file = match HOST_FILES.open(&path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let is_file = file.metadata().map_err(failed)?.is_file();
    if is_file { Ok(Some(file)) } else { Err(failed(io::Error::other("no regular file"))) }
}

/// The content of an open file, from its beginning.
///
/// # Errors
/// It cannot be read, or is longer than `limit_bytes`.
pub(crate) fn read(file: &File, limit_bytes: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.take(limit_bytes + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit_bytes {
        return Err(io::Error::other(format!("longer than {limit_bytes} bytes")));
    }
    Ok(content)
}

impl Directory {
    /// Opens the directory, which only its owner may enter if it has to be made first: guests' memory is secret.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub(crate) fn create(path: &Path) -> Result<Self, DirectoryError> {
        let directory = |descriptor| Self { path: path.to_owned(), descriptor };
        if HOST_FILES.is_restricted() {
            return Ok(directory(None));
        }
        let made = match rustix::fs::mkdir(path, Mode::RWXU) {
            Err(rustix::io::Errno::EXIST) => Ok(()),
            made => made,
        };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = made.and_then(|()| rustix::fs::open(path, flags, Mode::empty()));
        match opened {
            Ok(descriptor) => Ok(directory(Some(descriptor))),
            Err(error) => Err(DirectoryError { path: path.to_owned(), source: error.into() }),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// For `map_err` of what is done with the file `name`.
    pub(crate) fn failed_at(&self, name: &str) -> impl FnOnce(io::Error) -> DirectoryError {
        let path = self.path.join(name);
        move |source| DirectoryError { path, source }
    }

    /// A new, empty file that has its name only once [`Self::publish`] gives it.
    ///
    /// # Errors
    /// The directory is not ours to write, or the file system is full.
    pub(crate) fn begin_file(&self, name: &str) -> Result<File, DirectoryError> {
        let opened = match &self.descriptor {
            None => HOST_FILES.open(&self.path.join(name), Access::ReadWrite).and_then(|file| {
                file.set_len(0)?;
                Ok(file)
            }),
            Some(descriptor) => {
                let flags =
                    OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(descriptor, unpublished(name), flags, Mode::RUSR | Mode::WUSR)
                    .map(File::from)
                    .map_err(io::Error::from)
            }
        };
        opened.map_err(self.failed_at(name))
    }

    /// Gives a file that is complete and on stable storage its name, in place of an older one.
    ///
    /// # Errors
    /// The file system is broken.
    pub(crate) fn publish(&self, name: &str) -> Result<(), DirectoryError> {
        let Some(descriptor) = &self.descriptor else { return Ok(()) };
        rustix::fs::renameat(descriptor, unpublished(name), descriptor, name)
            .and_then(|()| rustix::fs::fsync(descriptor))
            .map_err(|error| self.failed_at(name)(error.into()))
    }

    /// Removes what [`Self::begin_file`] began and nobody will finish.
    pub(crate) fn abandon(&self, name: &str) {
        if let Some(descriptor) = &self.descriptor {
            // There is nothing to be done about it; the next attempt replaces it.
            rustix::fs::unlinkat(descriptor, unpublished(name), AtFlags::empty()).ok();
        }
    }

    /// Makes another directory's file appear here too, without a copy.
    ///
    /// # Errors
    /// They are on different file systems, or the file is gone.
    pub(crate) fn link(&self, from: &Self, name: &str) -> Result<(), DirectoryError> {
        let (Some(here), Some(there)) = (&self.descriptor, &from.descriptor) else { return Ok(()) };
        match rustix::fs::linkat(there, name, here, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(self.failed_at(name)(error.into())),
        }
    }
}

fn unpublished(name: &str) -> String {
    format!("{name}.new")
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_file_appears_when_it_is_complete() {
        let outer = TempDir::new().unwrap();
        let path = outer.path().join("of-a-machine");
        let directory = Directory::create(&path).unwrap();
        let mut file = directory.begin_file(names::STATE).unwrap();
        file.write_all(b"content").unwrap();
        assert!(open_file(&path, names::STATE).unwrap().is_none());
        directory.publish(names::STATE).unwrap();
        let mut file = open_file(&path, names::STATE).unwrap().unwrap();
        assert_eq!(read(&file, 7).unwrap(), b"content");
        file.rewind().unwrap();
        assert!(read(&file, 6).unwrap_err().to_string().contains("longer than 6"));
    }

    #[test]
    fn what_was_begun_and_failed_leaves_nothing() {
        let path = TempDir::new().unwrap();
        let directory = Directory::create(path.path()).unwrap();
        drop(directory.begin_file(names::MEMORY).unwrap());
        directory.abandon(names::MEMORY);
        assert_eq!(std::fs::read_dir(path.path()).unwrap().count(), 0);
    }

    #[test]
    fn directories_are_no_files_of_a_snapshot() {
        let path = TempDir::new().unwrap();
        std::fs::create_dir(path.path().join(names::STATE)).unwrap();
        let error = open_file(path.path(), names::STATE).unwrap_err().to_string();
        assert!(error.contains("no regular file"), "{error}");
    }
}
