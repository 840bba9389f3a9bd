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
    #[error("state directory {path}: {source}")]
    Unusable { path: PathBuf, source: io::Error },
    #[error("state directory {path}: in use by process {holder}")]
    InUse { path: PathBuf, holder: String },
    #[error("{}: {message}", files::CONFIG)]
    Config { message: String },
}

/// The directory, locked for as long as this value, or the process, lives.
#[derive(Debug)]
pub(crate) struct StateDir {
    _lock: File,
}

impl StateDir {
    /// Enters and locks the directory, and removes what an earlier process left in it.
    ///
    /// # Errors
    /// There is no such directory, or another process holds its lock.
    pub(crate) fn enter(path: &Path) -> Result<Self, StateDirError> {
        let unusable = |source| StateDirError::Unusable { path: path.to_owned(), source };
        std::env::set_current_dir(path).map_err(unusable)?;
        let lock = lock(path)?;
        for leftover in [files::CONTROL, files::VSOCK, files::EXIT] {
            remove(leftover).map_err(unusable)?;
        }
        Ok(Self { _lock: lock })
    }

    /// Reads and validates the machine's configuration.
    ///
    /// # Errors
    /// It is missing, no valid JSON, or out of bounds.
    pub(crate) fn config(&self) -> Result<MachineConfig, StateDirError> {
        let failed = |message| StateDirError::Config { message };
        let text = std::fs::read(files::CONFIG).map_err(|e| failed(e.to_string()))?;
        let config: MachineConfig = serde_json::from_slice(&text).map_err(|e| failed(e.to_string()))?;
        config.validate().map_err(|e| failed(e.to_string()))?;
        Ok(config)
    }

    /// Writes how the machine ended, and takes the sockets away: the last act.
    ///
    /// # Errors
    /// The file system is full or broken.
    pub(crate) fn leave(&self, exit: &MachineExit) -> io::Result<()> {
        let temporary = "exit.json.new";
        let mut file = File::create(temporary)?;
        file.write_all(&serde_json::to_vec(exit).map_err(io::Error::other)?)?;
        remove(files::CONTROL)?;
        remove(files::VSOCK)?;
        std::fs::rename(temporary, files::EXIT)
    }
}

/// Takes the lock and writes our process id into it.
fn lock(directory: &Path) -> Result<File, StateDirError> {
    let unusable = |source| StateDirError::Unusable { path: directory.to_owned(), source };
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).open(files::LOCK).map_err(unusable)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).map_err(unusable)?;
            return Err(StateDirError::InUse { path: directory.to_owned(), holder });
        }
        Err(e) => return Err(unusable(e.into())),
    }
    file.set_len(0).map_err(unusable)?;
    write!(file, "{}", std::process::id()).map_err(unusable)?;
    Ok(file)
}

fn remove(name: &str) -> io::Result<()> {
    match std::fs::remove_file(name) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}
