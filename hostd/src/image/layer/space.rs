//! Room on the host's disk: what is left is looked at while bytes are written, and some is left to others.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::LayerError;

/// How many bytes are written between two looks.
const INTERVAL_BYTES: u64 = 32 << 20;
/// This much of a disk stays free, or a twentieth of it if that is less: the daemon's own records and the containers
/// that run must go on when images do not fit.
const MAX_RESERVE_BYTES: u64 = 512 << 20;
const RESERVE_FRACTION: u64 = 20;

/// Watches the file system that a file lies on.
#[derive(Debug)]
pub(crate) struct SpaceWatch {
    path: PathBuf,
    reserve_bytes: Option<u64>,
    unchecked_bytes: u64,
}

impl SpaceWatch {
    /// For a file at `path`; the first write is checked.
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), reserve_bytes: None, unchecked_bytes: INTERVAL_BYTES }
    }

    #[cfg(test)]
    pub(super) fn with_reserve(path: &Path, reserve_bytes: u64) -> Self {
        Self { reserve_bytes: Some(reserve_bytes), ..Self::new(path) }
    }

    /// To be called before `bytes` more are written to `file`.
    ///
    /// # Errors
    /// They would use up what is reserved.
    pub(crate) fn take(&mut self, file: &File, bytes: u64) -> Result<(), LayerError> {
        self.unchecked_bytes = self.unchecked_bytes.saturating_add(bytes);
        if self.unchecked_bytes < INTERVAL_BYTES {
            return Ok(());
        }
        self.unchecked_bytes = bytes;
        let failed = |errno: rustix::io::Errno| LayerError::Write {
            path: self.path.clone(),
            source: io::Error::from(errno),
        };
        let disk = rustix::fs::fstatvfs(file).map_err(failed)?;
        let default =
            || (disk.f_blocks.saturating_mul(disk.f_frsize) / RESERVE_FRACTION).min(MAX_RESERVE_BYTES);
        let reserve_bytes = self.reserve_bytes.unwrap_or_else(default);
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free_bytes.saturating_sub(bytes.max(INTERVAL_BYTES)) < reserve_bytes {
            return Err(LayerError::NoSpace { path: self.path.clone(), free_mib: free_bytes >> 20 });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_stops_before_the_disk_is_full() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut watch = SpaceWatch::with_reserve(file.path(), u64::MAX / 2);
        let text = watch.take(file.as_file(), 1).unwrap_err().to_string();
        assert!(text.starts_with("no room: only ") && text.contains(" MiB are free where "), "{text}");
        let mut watch = SpaceWatch::with_reserve(file.path(), 0);
        watch.take(file.as_file(), 1).unwrap();
    }

    #[test]
    fn it_looks_again_after_some_bytes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut watch = SpaceWatch::with_reserve(file.path(), 0);
        watch.take(file.as_file(), 1).unwrap();
        watch.reserve_bytes = Some(u64::MAX / 2);
        watch.take(file.as_file(), INTERVAL_BYTES / 2).unwrap();
        assert!(watch.take(file.as_file(), INTERVAL_BYTES / 2).is_err());
    }
}
