//! The files of the host that this process may use: what it was handed, and, outside the jail, any by its path.
//!
//! One table for the process, as the process has one root directory. In the jail a path is only a name here: nothing is
//! looked up on the host.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::config::MAX_EXTENTS;

/// What is done with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    ReadWrite,
}

/// This process's files.
pub(crate) static HOST_FILES: HostFiles = HostFiles::by_path();

/// Files by their paths.
#[derive(Debug)]
pub(crate) struct HostFiles(Mutex<Handed>);

#[derive(Debug)]
struct Handed {
    /// `None`: nothing was handed over.
    files: Option<HashMap<PathBuf, OwnedFd>>,
    /// What was not handed over is the host's.
    others_by_path: bool,
}

impl HostFiles {
    const fn by_path() -> Self {
        Self(Mutex::new(Handed { files: None, others_by_path: true }))
    }

    fn handed(&self) -> MutexGuard<'_, Handed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on there are these files, and what is [added](Self::add), and no others.
    pub(crate) fn restrict_to(&self, files: impl IntoIterator<Item = (PathBuf, OwnedFd)>) {
        *self.handed() = Handed { files: Some(files.into_iter().collect()), others_by_path: false };
    }

    /// From now on these files need not be opened; all others still are.
    pub(crate) fn prefer(&self, files: impl IntoIterator<Item = (PathBuf, OwnedFd)>) {
        *self.handed() = Handed { files: Some(files.into_iter().collect()), others_by_path: true };
    }

    /// Whether this process opens nothing by itself.
    pub(crate) fn is_restricted(&self) -> bool {
        !self.handed().others_by_path
    }

    /// Puts a file, a device or a socket under a path.
    ///
    /// # Errors
    /// This process opens all files by their paths, or too many were added that nobody used.
    pub(crate) fn add(&self, path: PathBuf, file: OwnedFd) -> io::Result<()> {
        let mut handed = self.handed();
        let Some(table) = handed.files.as_mut() else {
            return Err(io::Error::other("this process opens files by itself and takes no descriptors"));
        };
        if table.len() >= 2 * MAX_EXTENTS {
            return Err(io::Error::other("too many files were handed over and not used"));
        }
        table.insert(path, file);
        Ok(())
    }

    /// The descriptor that was handed over under this path, of whatever kind it is; it stays there for others.
    ///
    /// # Errors
    /// The process has as many descriptors as it may.
    pub(crate) fn descriptor(&self, path: &Path) -> io::Result<Option<OwnedFd>> {
        self.handed().files.as_ref().and_then(|table| table.get(path)).map(OwnedFd::try_clone).transpose()
    }

    /// As [`Self::descriptor`], for what nobody else may have meanwhile: it is not there any more.
    pub(crate) fn take(&self, path: &Path) -> Option<OwnedFd> {
        self.handed().files.as_mut().and_then(|table| table.remove(path))
    }

    /// Opens a file, or takes what was opened for us.
    ///
    /// # Errors
    /// The file does not open; in the jail, nobody handed it over.
    pub(crate) fn open(&self, path: &Path, access: Access) -> io::Result<File> {
        if let Some(descriptor) = self.descriptor(path)? {
            return Ok(descriptor.into());
        }
        self.check_is_the_hosts()?;
        OpenOptions::new().read(true).write(access == Access::ReadWrite).open(path)
    }

    /// Connects to a socket, or takes the connection that was made for us.
    ///
    /// # Errors
    /// Nobody listens there; in the jail, nobody handed it over.
    pub(crate) fn connect(&self, path: &Path) -> io::Result<UnixStream> {
        if let Some(connected) = self.descriptor(path)? {
            return Ok(connected.into());
        }
        self.check_is_the_hosts()?;
        UnixStream::connect(path)
    }

    fn check_is_the_hosts(&self) -> io::Result<()> {
        if self.is_restricted() {
            let message = "it was not handed over, and a machine in the jail opens no files";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        Ok(())
    }

    /// Lets go of all that was handed over so far: what is in use has a descriptor of its own.
    pub(crate) fn release(&self) {
        if let Some(table) = self.handed().files.as_mut() {
            table.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn paths_are_the_hosts_until_files_are_handed_over() {
        let files = HostFiles::by_path();
        let file = tempfile::NamedTempFile::new().unwrap();
        files.open(file.path(), Access::ReadWrite).unwrap();
        assert!(files.add("/x".into(), file.reopen().unwrap().into()).is_err());
        files.restrict_to([]);
        let refusal = files.open(file.path(), Access::Read).unwrap_err();
        assert!(refusal.to_string().contains("not handed over"), "{refusal}");
    }

    #[test]
    fn connections_are_made_or_handed_over_like_files() {
        let files = HostFiles::by_path();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        files.connect(&path).unwrap();
        listener.accept().unwrap();
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        files.restrict_to([("/server".into(), ours.into())]);
        assert!(files.connect(&path).unwrap_err().to_string().contains("not handed over"));
        std::io::Write::write_all(&mut theirs, b"text").unwrap();
        let mut text = [0; 4];
        files.connect(Path::new("/server")).unwrap().read_exact(&mut text).unwrap();
        assert_eq!(&text, b"text");
    }

    #[test]
    fn preferred_files_are_not_looked_up_and_all_others_are() {
        let files = HostFiles::by_path();
        let file = tempfile::NamedTempFile::new().unwrap();
        files.prefer([("/nowhere".into(), file.reopen().unwrap().into())]);
        files.open(Path::new("/nowhere"), Access::Read).unwrap();
        files.open(file.path(), Access::Read).unwrap();
        assert!(!files.is_restricted());
        files.add("/x".into(), file.reopen().unwrap().into()).unwrap();
        files.take(Path::new("/x")).unwrap();
        assert!(files.take(Path::new("/x")).is_none());
    }

    #[test]
    fn a_handed_file_is_found_under_its_path_only_until_released() {
        let files = HostFiles::by_path();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "text").unwrap();
        files.restrict_to([("/nowhere".into(), file.reopen().unwrap().into())]);
        for _twice in 0..2 {
            assert!(files.open(Path::new("/nowhere"), Access::Read).is_ok());
        }
        let mut text = String::new();
        files.open(Path::new("/nowhere"), Access::Read).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "text");
        assert!(files.open(Path::new("nowhere"), Access::Read).is_err());
        files.release();
        assert!(files.open(Path::new("/nowhere"), Access::Read).is_err());
    }
}
