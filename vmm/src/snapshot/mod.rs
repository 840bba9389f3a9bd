//! Snapshots: a machine that stands still, as files, and memory that comes back from them as it is touched.
//!
//! ```text
//!   DIRECTORY/snapshot       header and state ([`Snapshot`]), renamed into place last: it decides
//!             memory         all of RAM at its own offsets; pages of zeros are holes
//!             changes        pages that are newer, at their offsets (a second snapshot writes only these)
//!             working-set    which parts of RAM a guest needs first ([`WorkingSet`]); optional
//! ```
//!
//! A restored machine maps the memory files privately, so several share one snapshot and none changes it. What it is
//! known to need first comes as huge pages that are filled when they are touched, or before ([`lazy_pages`]).
//! Here are files and memory; what is saved of processors and devices is theirs to say (`kvm`, `virtio`), and in which
//! order a machine is put together is `kvm_machine`'s.

mod directory;
mod format;
#[cfg(test)]
mod format_tests;
mod lazy_pages;
mod memory_file;
mod memory_map;
mod opened;
mod page_map;
mod pages;
mod userfault;
mod working_set;

pub(crate) use self::directory::{Directory, DirectoryError, names, open_file};
pub(crate) use self::format::{Changes, FileId, MAX_CHANGED_RUNS, MemoryFiles, Snapshot};
pub(crate) use self::lazy_pages::Filling;
pub(crate) use self::memory_file::{MemoryFileError, check, write_pages};
pub(crate) use self::memory_map::{MapError, map};
pub(crate) use self::opened::{LoadedSnapshot, OpenError, OpenedSnapshot};
pub(crate) use self::page_map::PageMap;
pub(crate) use self::pages::{PageRun, PageSet};
pub(crate) use self::working_set::{CHUNK_BYTES, WorkingSet};
