//! Layers: from a blob's stream to one data file and an index of entries.
//!
//! ```text
//! data     whole blocks of 4 KiB of every regular file, one file after the other
//! index    short tails of files, one after the other; then the entries, and what the whole must look like
//! ```
//!
//! Nothing of a layer is unpacked into host files. What of a file does not fill its last block lies in the index if
//! it is at most half a block: the image's metadata takes it over, so it costs less than a block of its own would.
//! Both files are written once and never changed, and the same archive always gives the same bytes.

mod content;
mod entry;
mod index;
mod intake;
mod path;
mod space;
mod unpack;
mod verify;

#[cfg(test)]
pub(crate) use entry::FilePlace;
pub(crate) use entry::{Attributes, Entry, EntryKind};
pub(crate) use index::LayerIndex;
pub(crate) use intake::{Blob, Intake, IntakeProgress, LayerError};
pub(crate) use space::SpaceWatch;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use unpack::unpack;
pub(crate) use verify::verify;

/// Files begin at multiples of this in the data file: a block of the image disk's file system.
pub(crate) const BLOCK_BYTES: u64 = 4096;
/// The longest tail that is kept in the index. A longer one is cheaper in a block of its own, as a shorter one is
/// written twice: here and in the metadata of the image.
pub(crate) const MAX_TAIL_BYTES: u64 = BLOCK_BYTES / 2;
/// A file with more extended attributes than this (names and values) has no tail in the index: its inode, they and
/// the tail must share a block.
pub(crate) const MAX_XATTR_BYTES_WITH_TAIL: usize = 1024;

/// The names of the files in a layer's directory.
pub(crate) mod files {
    pub(crate) const DATA: &str = "data";
    pub(crate) const INDEX: &str = "index";
}
