//! The on-disk structures of EROFS that we write (Linux, `fs/erofs/erofs_fs.h`), all little-endian.

use crate::image::tree::{Inode, InodeKind};

use super::layout::Body;

pub(super) const BLOCK_BYTES: u64 = 4096;
const BLOCK_BITS: u8 = 12;
pub(super) const SUPERBLOCK_OFFSET_BYTES: u64 = 1024;
pub(super) const SUPERBLOCK_BYTES: u64 = 128;
/// A node id is an inode's offset in units of this.
pub(super) const INODE_SLOT_BYTES: u64 = 32;
/// The extended form.
pub(super) const INODE_BYTES: u64 = 64;
pub(super) const DIRENT_BYTES: usize = 12;

const MAGIC: u32 = 0xE0F5_E1E2;
/// The superblock has a checksum.
const FEATURE_COMPAT_CHECKSUM: u32 = 1;

const LAYOUT_FLAT_PLAIN: u16 = 0;
const LAYOUT_FLAT_INLINE: u16 = 2;
const VERSION_EXTENDED: u16 = 1;

const S_IFIFO: u16 = 0o010_000;
const S_IFCHR: u16 = 0o020_000;
const S_IFDIR: u16 = 0o040_000;
const S_IFBLK: u16 = 0o060_000;
const S_IFREG: u16 = 0o100_000;
const S_IFLNK: u16 = 0o120_000;

/// `struct erofs_super_block`.
pub(super) struct Superblock {
    pub(super) root: u64,
    pub(super) inodes: u64,
    pub(super) blocks: u32,
    pub(super) uuid: [u8; 16],
}

impl Superblock {
    pub(super) const CHECKSUM_OFFSET_BYTES: u64 = 4;
    /// From the superblock to the end of its block.
    #[expect(clippy::cast_possible_truncation, reason = "a constant: 3072")]
    pub(super) const CHECKED_BYTES: usize = (BLOCK_BYTES - SUPERBLOCK_OFFSET_BYTES) as usize;

    pub(super) fn encode(&self) -> Vec<u8> {
        let root = u16::try_from(self.root).expect("the root comes first in the inode area");
        let mut bytes = Fields::with_capacity(SUPERBLOCK_BYTES);
        bytes.u32(MAGIC);
        bytes.u32(0); // checksum: filled in when the block is complete
        bytes.u32(FEATURE_COMPAT_CHECKSUM);
        bytes.u8(BLOCK_BITS);
        bytes.u8(0); // no extension slots
        bytes.u16(root);
        bytes.u64(self.inodes);
        bytes.u64(0); // build time: no inode derives its own from it
        bytes.u32(0); // its nanoseconds
        bytes.u32(self.blocks);
        bytes.u32(0); // the inode area begins at block 0
        bytes.u32(0); // no shared extended attributes
        bytes.0.extend(self.uuid);
        bytes.zeros(16); // volume name
        bytes.u32(0); // no incompatible features
        bytes.zeros(44); // compression, devices, prefixes, reserved
        debug_assert_eq!(bytes.0.len() as u64, SUPERBLOCK_BYTES);
        bytes.0
    }
}

/// `struct erofs_inode_extended`.
pub(super) struct InodeRecord<'a> {
    pub(super) inode: &'a Inode,
    pub(super) body: &'a Body,
    /// A number of its own, for 32-bit `stat`.
    pub(super) sequence: u32,
    pub(super) links: u32,
    /// Of the encoded extended attributes behind the inode.
    pub(super) xattr_bytes: usize,
    /// `i_u`: first block or device number.
    pub(super) pointer: u32,
}

impl InodeRecord<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let attributes = &self.inode.attributes;
        let mut bytes = Fields::with_capacity(INODE_BYTES);
        bytes.u16(VERSION_EXTENDED | (self.layout() << 1));
        bytes.u16(super::xattr::count_field(self.xattr_bytes));
        bytes.u16(file_mode(&self.inode.kind) | attributes.mode);
        bytes.u16(0); // reserved
        bytes.u64(self.size_bytes());
        bytes.u32(self.pointer);
        bytes.u32(self.sequence);
        bytes.u32(attributes.uid);
        bytes.u32(attributes.gid);
        bytes.u64(attributes.modified.seconds.cast_unsigned());
        bytes.u32(attributes.modified.nanoseconds);
        bytes.u32(self.links);
        bytes.zeros(16); // reserved
        debug_assert_eq!(bytes.0.len() as u64, INODE_BYTES);
        bytes.0
    }

    fn layout(&self) -> u16 {
        match self.body {
            Body::Elsewhere | Body::Blocks { .. } => LAYOUT_FLAT_PLAIN,
            Body::Inline { .. } | Body::Tail { .. } => LAYOUT_FLAT_INLINE,
        }
    }

    fn size_bytes(&self) -> u64 {
        match (&self.inode.kind, self.body) {
            (InodeKind::File { size_bytes, .. }, _) => *size_bytes,
            (_, Body::Blocks { size_bytes, .. } | Body::Inline { size_bytes, .. }) => *size_bytes,
            (_, Body::Elsewhere | Body::Tail { .. }) => 0,
        }
    }
}

/// `enum` of `d_type` values in directory entries.
pub(super) fn file_type(kind: &InodeKind) -> u8 {
    match kind {
        InodeKind::File { .. } => 1,
        InodeKind::Directory(_) => 2,
        InodeKind::CharacterDevice { .. } => 3,
        InodeKind::BlockDevice { .. } => 4,
        InodeKind::Fifo => 5,
        InodeKind::Symlink { .. } => 7,
    }
}

fn file_mode(kind: &InodeKind) -> u16 {
    match kind {
        InodeKind::File { .. } => S_IFREG,
        InodeKind::Directory(_) => S_IFDIR,
        InodeKind::CharacterDevice { .. } => S_IFCHR,
        InodeKind::BlockDevice { .. } => S_IFBLK,
        InodeKind::Fifo => S_IFIFO,
        InodeKind::Symlink { .. } => S_IFLNK,
    }
}

/// Linux's 32-bit form of a device number: 12 bits of major, 20 of minor.
pub(super) fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// Fields of a structure, appended one after the other.
pub(super) struct Fields(pub(super) Vec<u8>);

impl Fields {
    pub(super) fn with_capacity(bytes: u64) -> Self {
        Self(Vec::with_capacity(usize::try_from(bytes).expect("a structure is small")))
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn zeros(&mut self, count: usize) {
        self.0.resize(self.0.len() + count, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_packed_as_linux_packs_them() {
        assert_eq!(device_number(1, 3), 0x103);
        assert_eq!(device_number(0xfff, 0xf_ffff), 0xffff_ffff);
        assert_eq!(device_number(8, 0x100), 0x10_0800);
    }
}
