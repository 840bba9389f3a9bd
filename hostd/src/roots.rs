//! The daemon's two directories and its pidfile: made, locked for one daemon, given back.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// Only the daemon's user looks into them: images and logs are its tenants'.
const DIRECTORY_MODE: u32 = 0o711;
const LOCK: &str = "berthd.lock";

/// Why this daemon cannot have its directories.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    #[error("another daemon{} uses {}: stop it or choose another --data-root", pid(.holder.as_deref()), path.display())]
    Locked { path: PathBuf, holder: Option<String> },
    #[error("cannot use {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

fn pid(holder: Option<&str>) -> String {
    holder.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// Holds the data root for this process; the kernel releases it however the process ends.
#[derive(Debug)]
pub struct Roots {
    _lock: File,
    pidfile: PathBuf,
}

impl Roots {
    /// Makes the directories, takes the lock, writes the pidfile.
    ///
    /// # Errors
    /// A data root another daemon uses, or a directory that cannot be made or written.
    pub fn claim(data_root: &Path, exec_root: &Path, pidfile: &Path) -> Result<Self, RootsError> {
        let pidfile_directory = pidfile.parent().unwrap_or(exec_root);
        for directory in [data_root, exec_root, pidfile_directory] {
            let made = std::fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory);
            made.map_err(|source| RootsError::Io { path: directory.to_owned(), source })?;
        }
        let lock = lock(data_root)?;
        let text = std::process::id().to_string();
        std::fs::write(pidfile, text)
            .map_err(|source| RootsError::Io { path: pidfile.to_owned(), source })?;
        Ok(Self { _lock: lock, pidfile: pidfile.to_owned() })
    }
}

impl Drop for Roots {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.pidfile) {
            tracing::warn!(pidfile = %self.pidfile.display(), %error, "cannot remove the pidfile");
        }
    }
}

fn lock(data_root: &Path) -> Result<File, RootsError> {
    let path = data_root.join(LOCK);
    let failed = |source| RootsError::Io { path: path.clone(), source };
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = options.map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(RootsError::Locked { path: data_root.to_owned(), holder: holder(&mut file) });
        }
        Err(error) => return Err(failed(error.into())),
    }
    file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

fn holder(file: &mut File) -> Option<String> {
    let mut text = String::new();
    // A pid has at most seven digits; whatever else stands there is not shown.
    file.take(8).read_to_string(&mut text).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(root: &Path) -> Result<Roots, RootsError> {
        Roots::claim(&root.join("data"), &root.join("run"), &root.join("run/berthd.pid"))
    }

    #[test]
    fn a_data_root_has_one_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let first = claim(directory.path()).unwrap();
        let message = claim(directory.path()).unwrap_err().to_string();
        assert!(message.contains(&format!("(process {})", std::process::id())), "{message}");
        assert!(message.contains("--data-root"), "{message}");
        drop(first);
        claim(directory.path()).unwrap();
    }

    #[test]
    fn the_pidfile_goes_with_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let pidfile = directory.path().join("run/berthd.pid");
        let roots = claim(directory.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&pidfile).unwrap(), std::process::id().to_string());
        drop(roots);
        assert!(!pidfile.exists());
    }
}
