//! Files as a tar archive: POSIX.1-2001 (pax), with extended attributes as star and GNU tar have them.
//!
//! Knows directories, not containers. Holds one file's piece and the names that are still to be visited, never a tree.

mod changes;

mod entries;

mod header;

mod layer;

mod levels;

mod links;

mod names;

mod walk;

pub(crate) use changes::{Change, ChangeKind, Furnishing, Overlay, Scope, Visit};
pub(crate) use walk::{write_named, write_tree};

#[cfg(test)]
mod tests;
