//! A machine's state directory: one `berth-vmm` at a time, and what it leaves behind.
//!
//! The directory is the process's working directory from here on, so that sockets in it have short names however
//! deep it lies; relative paths in the configuration start there too.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

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
        for leftover in [files::CONTROL, files::VSOCK, files::EXIT] {
            remove(&path.join(leftover))?;
        }
        Ok(Self { path, _lock: lock })
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

    /// Writes how the machine ended, and takes the sockets away: the last act.
    ///
    /// # Errors
    /// The file system is full or broken.
    pub(crate) fn leave(&self, exit: &MachineExit) -> io::Result<()> {
        let successor = self.path.join("exit.json.new");
        std::fs::write(&successor, serde_json::to_vec(exit).map_err(io::Error::other)?)?;
        remove(&self.path.join(files::CONTROL))?;
        remove(&self.path.join(files::VSOCK))?;
        std::fs::rename(successor, self.path.join(files::EXIT))
    }
}

/// Takes the lock and writes our process id into it.
fn lock(path: &Path) -> Result<File, StateDirError> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            return Err(StateDirError::InUse { holder });
        }
        Err(e) => return Err(StateDirError::Unusable(e.into())),
    }
    file.set_len(0)?;
    write!(file, "{}", std::process::id())?;
    Ok(file)
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
        assert_eq!(names_in(&directory), [files::CONSOLE, files::LOCK]);
        std::fs::write(directory.path().join(files::CONTROL), "").unwrap();
        state_dir.leave(&MachineExit::ShutDown).unwrap();
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
