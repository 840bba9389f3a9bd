//! A file tree in memory: what an image's layers add up to, and what the EROFS writer writes.
//!
//! Inodes live in one vector and are named by their place in it, so hard links are two names for one number. An
//! inode that lost its last name stays in the vector with no links and is not written.

use std::collections::BTreeMap;

use super::layer::Attributes;

/// An inode's place in [`Tree`].
pub(crate) type InodeNumber = usize;

/// The root directory's number.
pub(crate) const ROOT: InodeNumber = 0;

#[derive(Debug)]
pub(crate) struct Tree {
    inodes: Vec<Inode>,
}

#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) kind: InodeKind,
    pub(crate) attributes: Attributes,
    /// Names that lead here; a directory's `.` and `..` are not counted.
    pub(crate) names: u32,
}

#[derive(Debug)]
pub(crate) enum InodeKind {
    /// `first_block` counts from where the disk's data begins, in blocks of 4 KiB.
    File {
        size_bytes: u64,
        first_block: u64,
        /// Where the bytes are that do not fill the last block; `None`: in that block.
        tail: Option<TailPlace>,
    },
    Directory(BTreeMap<Vec<u8>, InodeNumber>),
    Symlink {
        target: Vec<u8>,
    },
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// Where in a layer's index file the end of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TailPlace {
    /// The layer's number in the image, from 0.
    pub(crate) layer: usize,
    pub(crate) offset_bytes: u64,
}

impl Tree {
    /// A tree of an empty root directory.
    pub(crate) fn new() -> Self {
        Self { inodes: vec![Inode { names: 1, ..Inode::directory() }] }
    }

    pub(crate) fn inode(&self, number: InodeNumber) -> &Inode {
        &self.inodes[number]
    }

    pub(crate) fn inode_mut(&mut self, number: InodeNumber) -> &mut Inode {
        &mut self.inodes[number]
    }

    /// How many numbers were given out, those of inodes without names included.
    pub(crate) fn inode_count(&self) -> usize {
        self.inodes.len()
    }

    /// The entries of a directory; `None` for everything else.
    pub(crate) fn children(&self, number: InodeNumber) -> Option<&BTreeMap<Vec<u8>, InodeNumber>> {
        match &self.inodes[number].kind {
            InodeKind::Directory(children) => Some(children),
            _ => None,
        }
    }

    pub(crate) fn child(&self, directory: InodeNumber, name: &[u8]) -> Option<InodeNumber> {
        self.children(directory)?.get(name).copied()
    }

    /// Puts a new inode under a name, in the place of whatever had it.
    pub(crate) fn insert(&mut self, directory: InodeNumber, name: &[u8], inode: Inode) -> InodeNumber {
        let number = self.inodes.len();
        self.inodes.push(inode);
        self.link(directory, name, number);
        number
    }

    /// Gives an inode one more name, taking it from whatever had it.
    pub(crate) fn link(&mut self, directory: InodeNumber, name: &[u8], number: InodeNumber) {
        self.inodes[number].names += 1;
        let children = self.children_mut(directory);
        if let Some(replaced) = children.insert(name.to_vec(), number) {
            self.unname(replaced);
        }
    }

    pub(crate) fn remove(&mut self, directory: InodeNumber, name: &[u8]) {
        if let Some(removed) = self.children_mut(directory).remove(name) {
            self.unname(removed);
        }
    }

    pub(crate) fn clear(&mut self, directory: InodeNumber) {
        for removed in std::mem::take(self.children_mut(directory)).into_values() {
            self.unname(removed);
        }
    }

    fn children_mut(&mut self, number: InodeNumber) -> &mut BTreeMap<Vec<u8>, InodeNumber> {
        match &mut self.inodes[number].kind {
            InodeKind::Directory(children) => children,
            other => unreachable!("callers have looked: {other:?} is no directory"),
        }
    }

    /// Takes one name from an inode; a directory that goes takes its content with it. Deep trees are no recursion.
    fn unname(&mut self, number: InodeNumber) {
        let mut pending = vec![number];
        while let Some(number) = pending.pop() {
            let inode = &mut self.inodes[number];
            inode.names -= 1;
            if let (0, InodeKind::Directory(children)) = (inode.names, &mut inode.kind) {
                pending.extend(std::mem::take(children).into_values());
            }
        }
    }
}

impl Inode {
    pub(crate) fn new(kind: InodeKind, attributes: Attributes) -> Self {
        Self { kind, attributes, names: 0 }
    }

    /// A directory that no layer describes: root's, mode 755, of 1970 so that the same layers give the same disk.
    pub(crate) fn directory() -> Self {
        let attributes = Attributes { mode: 0o755, ..Attributes::default() };
        Self::new(InodeKind::Directory(BTreeMap::new()), attributes)
    }
}
