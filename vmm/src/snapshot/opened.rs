//! A snapshot's files, opened where paths can be, and read where what they say can do no harm.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::directory::{self, DirectoryError, names};
use super::format::{self, FormatError, Snapshot};
use super::memory_file::{self, MemoryFileError};
use super::memory_map::MemorySources;
use super::page_map::PageMap;
use super::userfault::UserFaults;
use super::working_set::{self, WorkingSet};

/// Why a snapshot cannot be used; nothing was done with it then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("{} is missing", path.display())]
    Missing { path: PathBuf },
    #[error("{} cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} {source}", path.display())]
    Format { path: PathBuf, source: FormatError },
    #[error("{}: {source}", path.display())]
    Memory { path: PathBuf, source: MemoryFileError },
}

/// The files, of which nothing was read yet, and what the kernel gives for looking after memory.
#[derive(Debug)]
pub(crate) struct OpenedSnapshot {
    directory: PathBuf,
    state: File,
    memory: File,
    changes: Option<File>,
    working_set: Option<File>,
    page_map: Option<PageMap>,
    faults: Option<UserFaults>,
}

/// A snapshot that was read and checked.
#[derive(Debug)]
pub(crate) struct LoadedSnapshot {
    pub(crate) directory: PathBuf,
    pub(crate) snapshot: Snapshot,
    pub(crate) sources: MemorySources,
    pub(crate) working_set: Option<WorkingSet>,
    pub(crate) page_map: Option<PageMap>,
    pub(crate) faults: Option<UserFaults>,
}

impl OpenedSnapshot {
    /// # Errors
    /// A file is missing, or not ours to read.
    pub(crate) fn open(directory: &Path) -> Result<Self, OpenError> {
        let optional = |name| directory::open_file(directory, name);
        let needed = |name| {
            let missing = || OpenError::Missing { path: directory.join(name) };
            optional(name)?.ok_or_else(missing)
        };
        let working_set = optional(names::WORKING_SET).ok().flatten();
        Ok(Self {
            directory: directory.to_owned(),
            state: needed(names::STATE)?,
            memory: needed(names::MEMORY)?,
            changes: optional(names::CHANGES).or_else(not_handed_over)?,
            // Without one of these two, pages come one by one.
            faults: working_set.as_ref().and_then(|_| UserFaults::open().ok()),
            working_set,
            // Without it, no working set can be recorded, which is told to whoever wants to.
            page_map: PageMap::open().ok(),
        })
    }

    /// # Errors
    /// A file is not what it should be; the message names it and says why.
    pub(crate) fn load(self) -> Result<LoadedSnapshot, OpenError> {
        let path = self.directory.join(names::STATE);
        let snapshot = match directory::read(&self.state, format::MAX_BYTES) {
            Ok(bytes) => Snapshot::parse(&bytes).map_err(|source| OpenError::Format { path, source })?,
            Err(source) => return Err(OpenError::Read { path, source }),
        };
        let check = |name, file, id| {
            memory_file::check(file, id, snapshot.memory_bytes)
                .map_err(|source| OpenError::Memory { path: self.directory.join(name), source })
        };
        check(names::MEMORY, &self.memory, snapshot.memory_files.base)?;
        let changes = match &snapshot.memory_files.changes {
            None => None,
            Some(changes) => {
                let missing = || OpenError::Missing { path: self.directory.join(names::CHANGES) };
                let file = self.changes.ok_or_else(missing)?;
                check(names::CHANGES, &file, changes.file)?;
                Some((file, changes.runs.clone()))
            }
        };
        Ok(LoadedSnapshot {
            working_set: self.working_set.and_then(|file| usable(&file, &snapshot)),
            directory: self.directory,
            snapshot,
            sources: MemorySources { base: self.memory, changes },
            page_map: self.page_map,
            faults: self.faults,
        })
    }
}

/// In the jail a file that a snapshot does not have is one that nobody hands over.
fn not_handed_over(error: DirectoryError) -> Result<Option<File>, DirectoryError> {
    if error.is_refusal() { Ok(None) } else { Err(error) }
}

/// The working set, if it is whole and this snapshot's: it is a hint, and its loss no error.
fn usable(file: &File, snapshot: &Snapshot) -> Option<WorkingSet> {
    let bytes = directory::read(file, working_set::MAX_BYTES).ok()?;
    WorkingSet::parse(&bytes).ok().filter(|set| set.base == snapshot.memory_files.base)
}
