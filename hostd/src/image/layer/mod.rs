//! Layers: from a tar stream to one data file and an index of entries.
//!
//! Nothing of a layer is unpacked into host files: the data file holds every regular file's bytes one after the
//! other, each from a 4 KiB boundary on, and the index holds all the rest. Both are written once and never changed.

mod entry;
mod index;
mod ingest;
mod intake;
mod path;

pub(crate) use entry::{Attributes, Entry, EntryKind};
pub(crate) use index::LayerIndex;
pub(crate) use ingest::LayerError;
#[cfg(test)]
pub(crate) use ingest::ingest;
#[expect(unused_imports, reason = "pulls keep blobs")]
pub(crate) use intake::{Blob, TakenIn};
pub(crate) use intake::{Intake, IntakeProgress};

/// Files begin at multiples of this in the data file: a block of the image disk's file system.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// The names of the files in a layer's directory.
pub(crate) mod files {
    pub(crate) const DATA: &str = "data";
    pub(crate) const INDEX: &str = "index";
}
