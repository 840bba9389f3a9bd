//! A machine's state directory: one `berth-vmm` at a time, and what it leaves behind.
//!
//! The directory is the process's working directory from here on, so that sockets in it have short names however
//! deep it lies; relative paths in the configuration start there too.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::fs::FlockOperation;

use crate::config::{MachineConfig, files};
use crate::control::MachineExit;

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateDirError {
    #[error(transparent)]
    Unusable(#[from] io::Error),
    #[error("in use by process {holder}")]
    InUse { holder: String },
    #[error("{}: {message}", files::CONFIG)]
    Config { message: String },
}

/// The directory, locked for as long as this value, or the process, lives.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    _lock: File,
    exit: File,
}

impl StateDir {
    /// Makes the directory the working directory, and [`claims`](Self::claim) it.
    ///
    /// # Errors
    /// There is no such directory, or another process holds its lock.
    pub(crate) fn enter(path: &Path) -> Result<Self, StateDirError> {
        std::env::set_current_dir(path)?;
        Self::claim(".".into())
    }

    /// Locks the directory, and removes what an earlier process left in it.
    fn claim(path: PathBuf) -> Result<Self, StateDirError> {
        let lock = lock(&path.join(files::LOCK))?;
        for leftover in [files::CONTROL, files::VSOCK] {
            remove(&path.join(leftover))?;
        }
        let exit = File::create(path.join(files::EXIT))?;
        Ok(Self { path, _lock: lock, exit })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and validates the machine's configuration.
    ///
    /// # Errors
    /// It is missing, no valid JSON, or out of bounds.
    pub(crate) fn config(&self) -> Result<MachineConfig, StateDirError> {
        let failed = |message| StateDirError::Config { message };
        let text = std::fs::read(self.path.join(files::CONFIG)).map_err(|e| failed(e.to_string()))?;
        let config: MachineConfig = serde_json::from_slice(&text).map_err(|e| failed(e.to_string()))?;
        config.validate().map_err(|e| failed(e.to_string()))?;
        Ok(config)
    }

    /// Writes how the machine ended, and takes the sockets away, unless the jail has none to take: the last act.
    ///
    /// # Errors
    /// The file system is full or broken.
    pub(crate) fn leave(&self, exit: &MachineExit, jailed: bool) -> io::Result<()> {
        if !jailed {
            remove(&self.path.join(files::CONTROL))?;
            remove(&self.path.join(files::VSOCK))?;
        }
        self.exit.write_all_at(&serde_json::to_vec(exit).map_err(io::Error::other)?, 0)
    }
}

/// Takes the lock and writes our process id, as the daemon sees it, into the file. What we keep cannot change it any
/// more: others believe it.
fn lock(path: &Path) -> Result<File, StateDirError> {
    let mut writable = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let held = File::open(path)?;
    match rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            writable.read_to_string(&mut holder)?;
            return Err(StateDirError::InUse { holder });
        }
        Err(e) => return Err(StateDirError::Unusable(e.into())),
    }
    writable.set_len(0)?;
    write!(writable, "{}", host_pid())?;
    Ok(held)
}

/// Our process id where `/proc` was mounted, which is where the daemon is; in our own process namespace it is 1.
pub(crate) fn host_pid() -> u32 {
    static PID: OnceLock<u32> = OnceLock::new();
    *PID.get_or_init(|| {
        let link = std::fs::read_link("/proc/self").ok();
        link.and_then(|pid| pid.to_str()?.parse().ok()).unwrap_or_else(std::process::id)
    })
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn names_in(directory: &TempDir) -> Vec<String> {
        let entries = std::fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_directory_is_held_once_and_names_its_holder() {
        let directory = TempDir::new().unwrap();
        let held = StateDir::claim(directory.path().into()).unwrap();
        let refusal = StateDir::claim(directory.path().into()).unwrap_err().to_string();
        assert_eq!(refusal, format!("in use by process {}", std::process::id()));
        drop(held);
        StateDir::claim(directory.path().into()).unwrap();
    }

    #[test]
    fn nothing_of_an_earlier_life_misleads() {
        let directory = TempDir::new().unwrap();
        for name in [files::CONTROL, files::VSOCK, files::EXIT, files::CONSOLE] {
            std::fs::write(directory.path().join(name), "old").unwrap();
        }
        let state_dir = StateDir::claim(directory.path().into()).unwrap();
        assert_eq!(names_in(&directory), [files::CONSOLE, files::EXIT, files::LOCK]);
        assert_eq!(std::fs::read(directory.path().join(files::EXIT)).unwrap(), b"");
        std::fs::write(directory.path().join(files::CONTROL), "").unwrap();
        state_dir.leave(&MachineExit::ShutDown, false).unwrap();
        assert_eq!(names_in(&directory), [files::CONSOLE, files::EXIT, files::LOCK]);
        let exit = std::fs::read(directory.path().join(files::EXIT)).unwrap();
        assert_eq!(exit, br#"{"reason":"shut_down"}"#);
    }

    #[test]
    fn a_configuration_that_is_wrong_says_where() {
        let directory = TempDir::new().unwrap();
        let state_dir = StateDir::claim(directory.path().into()).unwrap();
        assert!(state_dir.config().unwrap_err().to_string().starts_with("machine.json: "));
        std::fs::write(directory.path().join(files::CONFIG), r#"{"id":"m"}"#).unwrap();
        assert!(state_dir.config().unwrap_err().to_string().contains("accelerator"));
    }
}
