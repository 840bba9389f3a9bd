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
    #[error(
        "another daemon{} uses {}: stop it or choose another {flag}", of_process(.holder.as_deref()), path.display()
    )]
    Locked { path: PathBuf, flag: &'static str, holder: Option<String> },
    #[error("cannot use {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

fn of_process(holder: Option<&str>) -> String {
    holder.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// Holds both roots for this process; the kernel releases them however the process ends.
#[derive(Debug)]
pub struct Roots {
    _locks: [File; 2],
    pidfile: PathBuf,
}

impl Roots {
    /// Makes the directories, locks them, writes the pidfile.
    ///
    /// # Errors
    /// A root that another daemon uses, or a directory that cannot be made or written.
    pub fn claim(data_root: &Path, exec_root: &Path, pidfile: &Path) -> Result<Self, RootsError> {
        let locks = [claim_directory(data_root, "--data-root")?, claim_directory(exec_root, "--exec-root")?];
        let failed = |source| RootsError::Io { path: pidfile.to_owned(), source };
        make_directory(pidfile.parent().unwrap_or(exec_root))?;
        std::fs::write(pidfile, std::process::id().to_string()).map_err(failed)?;
        Ok(Self { _locks: locks, pidfile: pidfile.to_owned() })
    }
}

impl Drop for Roots {
    fn drop(&mut self) {
        let own = std::process::id().to_string();
        let is_ours = std::fs::read_to_string(&self.pidfile).is_ok_and(|text| text == own);
        if is_ours && let Err(error) = std::fs::remove_file(&self.pidfile) {
            tracing::warn!(pidfile = %self.pidfile.display(), %error, "cannot remove the pidfile");
        }
    }
}

fn make_directory(path: &Path) -> Result<(), RootsError> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path);
    made.map_err(|source| RootsError::Io { path: path.to_owned(), source })
}

fn claim_directory(directory: &Path, flag: &'static str) -> Result<File, RootsError> {
    make_directory(directory)?;
    let path = directory.join(LOCK);
    let failed = |source| RootsError::Io { path: path.clone(), source };
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            return Err(RootsError::Locked { path: directory.to_owned(), flag, holder: holder(&mut file) });
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

    fn claim_as(root: &Path, data: &str, run: &str) -> Result<Roots, RootsError> {
        Roots::claim(&root.join(data), &root.join(run), &root.join(run).join("berthd.pid"))
    }

    fn claim(root: &Path) -> Result<Roots, RootsError> {
        claim_as(root, "data", "run")
    }

    #[test]
    fn a_root_has_one_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let first = claim(directory.path()).unwrap();
        let message = claim(directory.path()).unwrap_err().to_string();
        assert!(message.contains(&format!("(process {})", std::process::id())), "{message}");
        assert!(message.contains("--data-root"), "{message}");
        let message = claim_as(directory.path(), "other", "run").unwrap_err().to_string();
        assert!(message.contains("--exec-root"), "{message}");
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
