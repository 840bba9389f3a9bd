//! Where everything goes: one walk over the tree decides the place of every inode and directory block.
//!
//! Directories and what is small come first, then all files with their tails: listing names reads few blocks. In both
//! parts the children of a directory lie together.

use crate::image::tree::{InodeKind, InodeNumber, ROOT, Tree};

use super::format::{BLOCK_BYTES, INODE_BYTES, INODE_SLOT_BYTES, SUPERBLOCK_BYTES, SUPERBLOCK_OFFSET_BYTES};
use super::{directory, xattr};

/// The place of everything in the metadata.
pub(super) struct Layout {
    /// Inodes in the order of their offsets.
    pub(super) order: Vec<InodeNumber>,
    pub(super) metadata_blocks: u64,
    /// By inode number; none for inodes without names.
    places: Vec<Option<Place>>,
}

pub(super) struct Place {
    pub(super) offset_bytes: u64,
    pub(super) body: Body,
    /// Of a directory: where its `..` leads.
    pub(super) parent: InodeNumber,
    /// Counts inodes from 1.
    pub(super) sequence: u32,
}

/// Where an inode's content is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// In the data behind the metadata, or there is none.
    Elsewhere,
    /// In blocks of its own.
    Blocks { size_bytes: u64, blocks: usize, first_block: u64 },
    /// A file's whole blocks are in the data behind the metadata, and the rest right behind the inode.
    Tail { bytes: u64 },
    /// Full blocks of its own, and the rest right behind the inode.
    Inline { size_bytes: u64, full_blocks: usize, first_block: u64 },
}

impl Layout {
    pub(super) fn new(tree: &Tree) -> Self {
        let mut layout = Self { order: Vec::new(), metadata_blocks: 0, places: Vec::new() };
        layout.places.resize_with(tree.inode_count(), || None);
        let mut end_bytes = SUPERBLOCK_OFFSET_BYTES + SUPERBLOCK_BYTES;
        layout.add(tree, ROOT, ROOT, &mut end_bytes);
        let mut pending = vec![ROOT];
        let mut files = Vec::new();
        while let Some(directory) = pending.pop() {
            let subdirectories = pending.len();
            for child in tree.children(directory).into_iter().flat_map(|children| children.values()) {
                if matches!(tree.inode(*child).kind, InodeKind::File { .. }) {
                    files.push((*child, directory));
                } else if layout.places[*child].is_none() {
                    layout.add(tree, *child, directory, &mut end_bytes);
                    pending.extend(tree.children(*child).map(|_| *child));
                }
            }
            pending[subdirectories..].reverse();
        }
        for (file, directory) in files {
            if layout.places[file].is_none() {
                layout.add(tree, file, directory, &mut end_bytes);
            }
        }
        layout.number_blocks(end_bytes.div_ceil(BLOCK_BYTES));
        layout
    }

    pub(super) fn place(&self, number: InodeNumber) -> &Place {
        self.places[number].as_ref().expect("every inode with a name was walked over")
    }

    pub(super) fn nid(&self, number: InodeNumber) -> u64 {
        self.place(number).offset_bytes / INODE_SLOT_BYTES
    }

    fn add(&mut self, tree: &Tree, number: InodeNumber, parent: InodeNumber, end_bytes: &mut u64) {
        let inode = tree.inode(number);
        let fixed_bytes = INODE_BYTES + xattr::encode(&inode.attributes.xattrs).len() as u64;
        let (body, tail_bytes) = body(&inode.kind, fixed_bytes);
        let mut offset_bytes = end_bytes.next_multiple_of(INODE_SLOT_BYTES);
        let tail = offset_bytes + fixed_bytes;
        // What lies behind an inode must not cross a block's end.
        if tail_bytes > 0 && tail / BLOCK_BYTES != (tail + tail_bytes - 1) / BLOCK_BYTES {
            offset_bytes = start_for_tail(offset_bytes, fixed_bytes);
        }
        *end_bytes = offset_bytes + fixed_bytes + tail_bytes;
        self.order.push(number);
        let sequence = u32::try_from(self.order.len()).unwrap_or(u32::MAX);
        self.places[number] = Some(Place { offset_bytes, body, parent, sequence });
    }

    /// Gives blocks behind the inode area to the bodies that want some.
    fn number_blocks(&mut self, first_free_block: u64) {
        self.metadata_blocks = first_free_block;
        for number in &self.order {
            let Some(place) = &mut self.places[*number] else { continue };
            let (blocks, first) = match &mut place.body {
                Body::Elsewhere | Body::Tail { .. } => continue,
                Body::Blocks { blocks, first_block, .. } => (*blocks, first_block),
                Body::Inline { full_blocks, first_block, .. } => (*full_blocks, first_block),
            };
            *first = self.metadata_blocks;
            self.metadata_blocks += blocks as u64;
        }
    }
}

impl Body {
    /// How many blocks behind the inode area it has.
    pub(super) fn own_blocks(&self) -> usize {
        match self {
            Self::Elsewhere | Self::Tail { .. } => 0,
            Self::Blocks { blocks, .. } => *blocks,
            Self::Inline { full_blocks, .. } => *full_blocks,
        }
    }

    /// Where they begin.
    pub(super) fn first_own_block(&self) -> u64 {
        match self {
            Self::Elsewhere | Self::Tail { .. } => 0,
            Self::Blocks { first_block, .. } | Self::Inline { first_block, .. } => *first_block,
        }
    }
}

/// The first place from `offset_bytes` on that lets what follows the inode begin at a block's start or later.
fn start_for_tail(offset_bytes: u64, fixed_bytes: u64) -> u64 {
    let tail = (offset_bytes + fixed_bytes).next_multiple_of(BLOCK_BYTES);
    (tail - fixed_bytes).next_multiple_of(INODE_SLOT_BYTES)
}

/// The body of an inode whose fixed part has this length, and how many bytes to keep free behind it.
fn body(kind: &InodeKind, fixed_bytes: u64) -> (Body, u64) {
    match kind {
        InodeKind::Symlink { target } => {
            let size_bytes = target.len() as u64;
            if fits_behind(fixed_bytes, size_bytes) {
                (Body::Inline { size_bytes, full_blocks: 0, first_block: 0 }, size_bytes)
            } else {
                (Body::Blocks { size_bytes, blocks: 1, first_block: 0 }, 0)
            }
        }
        InodeKind::Directory(children) => {
            let mut names: Vec<&[u8]> =
                children.keys().map(Vec::as_slice).chain([&b"."[..], b".."]).collect();
            names.sort_unstable();
            let blocks: Vec<_> = directory::split(names.iter().map(|name| name.len())).collect();
            let last_bytes = blocks.last().expect("there is always '.'").bytes;
            let full_blocks = blocks.len() - 1;
            let size_bytes = full_blocks as u64 * BLOCK_BYTES + last_bytes;
            // The kernel finds the last name's end at a NUL: one byte more stays zero behind it.
            if fits_behind(fixed_bytes, last_bytes + 1) {
                (Body::Inline { size_bytes, full_blocks, first_block: 0 }, last_bytes + 1)
            } else {
                (Body::Blocks { size_bytes, blocks: full_blocks + 1, first_block: 0 }, 0)
            }
        }
        InodeKind::File { size_bytes, tail: Some(_), .. } => {
            let bytes = size_bytes % BLOCK_BYTES;
            debug_assert!(fits_behind(fixed_bytes, bytes), "layers bound tails and attributes");
            (Body::Tail { bytes }, bytes)
        }
        _ => (Body::Elsewhere, 0),
    }
}

/// Whether a tail can lie in one block together with its inode. (A slot in front of the tail may be lost to alignment.)
fn fits_behind(fixed_bytes: u64, tail_bytes: u64) -> bool {
    fixed_bytes.next_multiple_of(INODE_SLOT_BYTES) + tail_bytes <= BLOCK_BYTES
}
