//! The state file: a header that says what follows, and everything of a machine but its RAM.
//!
//! ```text
//!   "BRTHSNAP" | version u32 | architecture u32 | state's length u64 | state's CRC-32 | CRC-32 of all before | state
//! ```
//!
//! Little endian; the state is postcard. [`Snapshot::parse`] is a pure function of bytes that may be anybody's: it
//! bounds what it allocates, and its result holds no number that has not been checked, save those that KVM or the
//! devices check themselves.

use serde::{Deserialize, Serialize};

use super::pages::PageRun;
use crate::boot::cpuid::Virtualization;
use crate::config::{MAX_MEMORY_MIB, MAX_VCPUS};
use crate::devices::serial::SavedSerialPort;
use crate::kvm::{SavedChips, SavedVcpu};
use crate::layout::PAGE_BYTES;
use crate::virtio::mmio::SavedDevice;

const MAGIC: [u8; 8] = *b"BRTHSNAP";
/// Raised with every change of the state's types; there is no reading of older ones.
const VERSION: u32 = 1;
/// EM_X86_64 of the ELF specification.
const ARCHITECTURE: u32 = 62;
const HEADER_BYTES: usize = 32;
/// More than the most processors, devices and changed runs make.
pub(super) const MAX_BYTES: u64 = 16 << 20;
/// Each becomes a mapping, of which the host allows a process some 65,000.
pub(crate) const MAX_CHANGED_RUNS: usize = 8192;

/// Everything of a machine but its RAM.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) virtualization: Virtualization,
    pub(crate) memory_bytes: u64,
    pub(crate) memory_files: MemoryFiles,
    pub(crate) vcpus: Vec<SavedVcpu>,
    pub(crate) chips: SavedChips,
    pub(crate) serial: SavedSerialPort,
    /// In guest order.
    pub(crate) devices: Vec<SavedDevice>,
}

/// Which memory file is meant: each has a number of its own, see `memory_file`.
pub(crate) type FileId = u64;

/// The files that RAM comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemoryFiles {
    /// All of RAM, as it was once.
    pub(crate) base: FileId,
    pub(crate) changes: Option<Changes>,
}

/// Which pages are newer than the base, and in which file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Changes {
    pub(crate) file: FileId,
    /// Ascending, none touching another.
    pub(crate) runs: Vec<PageRun>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FormatError {
    #[error("is no snapshot of a machine")]
    Foreign,
    #[error("has format {found}, this program reads format {VERSION} only: take a new snapshot with it")]
    Version { found: u32 },
    #[error("was taken on another architecture (ELF machine {found})")]
    Architecture { found: u32 },
    #[error("is damaged: {0}")]
    Damaged(String),
}

#[expect(clippy::needless_pass_by_value, reason = "texts and errors alike, by way of map_err")]
fn damaged(problem: impl ToString) -> FormatError {
    FormatError::Damaged(problem.to_string())
}

impl Snapshot {
    /// The file's content. The inverse of [`Self::parse`].
    pub(crate) fn encode(&self) -> Vec<u8> {
        Self::seal(&postcard::to_stdvec(self).expect("plain data becomes bytes"))
    }

    /// A file with a right header and these bytes behind it.
    pub(crate) fn seal(state: &[u8]) -> Vec<u8> {
        let mut file = Vec::with_capacity(HEADER_BYTES + state.len());
        file.extend(MAGIC);
        file.extend(VERSION.to_le_bytes());
        file.extend(ARCHITECTURE.to_le_bytes());
        file.extend((state.len() as u64).to_le_bytes());
        file.extend(crc32fast::hash(state).to_le_bytes());
        file.extend(crc32fast::hash(&file).to_le_bytes());
        file.extend(state);
        file
    }

    /// # Errors
    /// Says what is wrong with the file, in the order in which a person wants to know it.
    pub(crate) fn parse(file: &[u8]) -> Result<Self, FormatError> {
        let state = checked_state(file)?;
        let (snapshot, rest) = postcard::take_from_bytes::<Self>(state).map_err(damaged)?;
        if !rest.is_empty() {
            return Err(damaged("there is something behind its state"));
        }
        snapshot.validate()?;
        Ok(snapshot)
    }

    fn validate(&self) -> Result<(), FormatError> {
        let most = u64::from(MAX_MEMORY_MIB) << 20;
        if self.memory_bytes == 0 || self.memory_bytes > most || !self.memory_bytes.is_multiple_of(1 << 20) {
            return Err(damaged(format!("{} bytes of memory", self.memory_bytes)));
        }
        if self.vcpus.is_empty() || self.vcpus.len() > usize::from(MAX_VCPUS) {
            return Err(damaged(format!("{} processors", self.vcpus.len())));
        }
        self.memory_files.changes.as_ref().map_or(Ok(()), |changes| changes.validate(self.memory_bytes))
    }
}

impl Changes {
    fn validate(&self, memory_bytes: u64) -> Result<(), FormatError> {
        if self.runs.len() > MAX_CHANGED_RUNS {
            return Err(damaged(format!("{} runs of changed pages", self.runs.len())));
        }
        let mut behind = 0;
        for run in &self.runs {
            let end = run.end().filter(|end| *end <= memory_bytes / PAGE_BYTES);
            match end {
                Some(end) if run.count > 0 && run.first >= behind => behind = end,
                _ => return Err(damaged(format!("changed pages at {:#x}", run.first))),
            }
        }
        Ok(())
    }
}

/// What follows the header, once that and its checksum are right.
fn checked_state(file: &[u8]) -> Result<&[u8], FormatError> {
    let rest = file.strip_prefix(&MAGIC).ok_or(FormatError::Foreign)?;
    let (header, state) =
        rest.split_at_checked(HEADER_BYTES - MAGIC.len()).ok_or_else(|| damaged("truncated"))?;
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|n| header[at + n]));
    let (version, architecture) = (word(0), word(4));
    // Before the checksum: another version may compute it otherwise.
    if version != VERSION {
        return Err(FormatError::Version { found: version });
    }
    if crc32fast::hash(&file[..HEADER_BYTES - 4]) != word(20) {
        return Err(damaged("its header's checksum is wrong"));
    }
    if architecture != ARCHITECTURE {
        return Err(FormatError::Architecture { found: architecture });
    }
    let length = u64::from(word(8)) | u64::from(word(12)) << 32;
    if length != state.len() as u64 {
        return Err(damaged(format!("{} bytes of state where {length} should be", state.len())));
    }
    if crc32fast::hash(state) != word(16) {
        return Err(damaged("its state's checksum is wrong"));
    }
    Ok(state)
}
